// From the logits of a heatmap to what is painted: scores at any size, colours, the outline of the mask.

/**
 * Weights of a cubic (a = -0.5) that enlarges `from` samples to `to`: four per target, and the first source of each. The
 * ends are repeated, as in the library.
 * @param {number} from
 * @param {number} to
 */
function cubic(from, to) {
  const weights = new Float32Array(to * 4);
  const sources = new Int32Array(to * 4);
  const near = (/** @type {number} */ x) => (1.5 * x - 2.5) * x * x + 1;
  const far = (/** @type {number} */ x) => ((-0.5 * x + 2.5) * x - 4) * x + 2;
  for (let i = 0; i < to; i++) {
    const center = ((i + 0.5) * from) / to - 0.5;
    const first = Math.floor(center) - 1;
    let sum = 0;
    for (let k = 0; k < 4; k++) {
      const distance = Math.abs(center - (first + k));
      const inside = first + k >= 0 && first + k < from;
      const weight = inside ? (distance < 1 ? near(distance) : distance < 2 ? far(distance) : 0) : 0;
      weights[i * 4 + k] = weight;
      sources[i * 4 + k] = Math.min(Math.max(first + k, 0), from - 1);
      sum += weight;
    }
    for (let k = 0; k < 4; k++) weights[i * 4 + k] /= sum;
  }
  return { weights, sources };
}

/** A grid of scores in 0..1. */
export class ScoreGrid {
  /**
   * @param {number} width
   * @param {number} height
   */
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.scores = new Float32Array(width * height);
    this.side = 0;
  }

  /**
   * Fills the grid with σ(logit + offset) of the enlarged `logits`, a square.
   * @param {Float32Array} logits
   * @param {number} offset
   */
  fill(logits, offset) {
    const { width, height, scores } = this;
    const side = Math.round(Math.sqrt(logits.length));
    if (side !== this.side) {
      this.side = side;
      this.across = cubic(side, width);
      this.down = cubic(side, height);
      this.wide = new Float32Array(side * width);
    }
    const across = /** @type {ReturnType<typeof cubic>} */ (this.across);
    const down = /** @type {ReturnType<typeof cubic>} */ (this.down);
    const wide = /** @type {Float32Array} */ (this.wide);
    for (let y = 0; y < side; y++) {
      for (let x = 0; x < width; x++) {
        let sum = 0;
        for (let k = x * 4; k < x * 4 + 4; k++) sum += across.weights[k] * logits[y * side + across.sources[k]];
        wide[y * width + x] = sum;
      }
    }
    for (let y = 0; y < height; y++) {
      const k = y * 4;
      const [a, b, c, d] = [0, 1, 2, 3].map((i) => down.weights[k + i]);
      const [p, q, r, s] = [0, 1, 2, 3].map((i) => down.sources[k + i] * width);
      for (let x = 0; x < width; x++) {
        const logit = a * wide[p + x] + b * wide[q + x] + c * wide[r + x] + d * wide[s + x];
        scores[y * width + x] = 1 / (1 + Math.exp(-(logit + offset)));
      }
    }
  }

  /**
   * Paints the scores: their colours, the more opaque the higher they are.
   * @param {ImageData} image of this size
   * @param {Uint8Array} colors 256 times red, green, blue
   * @param {number} opacity of a score of 1
   */
  paint(image, colors, opacity) {
    const { data } = image;
    for (let i = 0; i < this.scores.length; i++) {
      const step = (this.scores[i] * 255) | 0;
      data[i * 4] = colors[step * 3];
      data[i * 4 + 1] = colors[step * 3 + 1];
      data[i * 4 + 2] = colors[step * 3 + 2];
      data[i * 4 + 3] = opacity * step;
    }
  }

  /**
   * The outline of the scores ≥ `threshold`, in units of the grid scaled by `scaleX` and `scaleY`: marching squares
   * between the centres of the grid's cells, closed at its edges.
   * @param {number} threshold
   * @param {number} scaleX
   * @param {number} scaleY
   */
  outline(threshold, scaleX, scaleY) {
    const { width, height, scores } = this;
    const path = new Path2D();
    const at = (/** @type {number} */ x, /** @type {number} */ y) =>
      x < 0 || y < 0 || x >= width || y >= height ? 0 : scores[y * width + x];
    const cross = (/** @type {number} */ a, /** @type {number} */ b) => (threshold - a) / (b - a);
    const place = (/** @type {number} */ v, /** @type {number} */ size) => Math.min(Math.max(v + 0.5, 0), size);
    for (let y = -1; y < height; y++) {
      for (let x = -1; x < width; x++) {
        const [a, b, c, d] = [at(x, y), at(x + 1, y), at(x + 1, y + 1), at(x, y + 1)];
        const inside = (a >= threshold ? 8 : 0) | (b >= threshold ? 4 : 0) | (c >= threshold ? 2 : 0) | (d >= threshold ? 1 : 0);
        if (inside === 0 || inside === 15) continue;
        /** The crossing of one side of the square. @param {number} side */
        const point = (side) => {
          const [px, py] =
            side === 0 ? [x + cross(a, b), y]
            : side === 1 ? [x + 1, y + cross(b, c)]
            : side === 2 ? [x + cross(d, c), y + 1]
            : [x, y + cross(a, d)];
          return [place(px, width) * scaleX, place(py, height) * scaleY];
        };
        for (const [from, to] of SEGMENTS[inside]) {
          const [x0, y0] = point(from);
          const [x1, y1] = point(to);
          path.moveTo(x0, y0);
          path.lineTo(x1, y1);
        }
      }
    }
    return path;
  }
}

/** By which corners are inside (8: upper left, then clockwise), the sides that each segment joins (0: top, clockwise). */
/** @type {[number, number][][]} */
const SEGMENTS = [
  [], [[3, 2]], [[2, 1]], [[3, 1]], [[0, 1]], [[0, 3], [2, 1]], [[0, 2]], [[0, 3]],
  [[0, 3]], [[0, 2]], [[0, 1], [3, 2]], [[0, 1]], [[3, 1]], [[2, 1]], [[3, 2]], [],
];
