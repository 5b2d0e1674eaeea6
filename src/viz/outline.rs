//! The outline of a mask, found by marching squares and drawn as lines with soft edges.

/// Computes the distance of pixels to the outline.
pub(super) struct Outline {
    /// The side of the marching squares in pixels: small enough for the line's width, but large enough to keep the cost
    /// proportional to the picture's area, however irregular the mask is.
    step: usize,
    /// The maximum distance; larger distances are set to it.
    reach: f32,
    threshold: f32,
}

/// A point in pixels: column, row.
type Point = (f32, f32);

impl Outline {
    /// The outline at `threshold`, with distances up to `reach` pixels.
    pub fn new(threshold: f32, reach: f32) -> Self {
        Self { step: (reach / 2.0).max(1.0) as usize, reach, threshold }
    }

    /// The number of rows above and below a band whose scores affect the distances in the band.
    pub fn margin(&self) -> usize {
        self.reach.ceil() as usize + self.step
    }

    /// The distance to the outline in pixels, at most the reach, for `rows` of a picture with `height` rows; row-major.
    ///
    /// `scores` contains the rows from `first` on, with `width` scores each. It must extend `rows` by
    /// [`Outline::margin`] rows at either end, or to the edge of the picture.
    pub fn distances(
        &self,
        scores: &[f32],
        first: usize,
        width: usize,
        height: usize,
        rows: std::ops::Range<usize>,
    ) -> Vec<f32> {
        let squares = vec![self.reach * self.reach; rows.len() * width];
        let mut canvas = Canvas { squares, width, first: rows.start, reach: self.reach };
        let columns = self.nodes(0, width, width);
        let lines = self.nodes(first, first + scores.len() / width, height);
        for vertical in lines.windows(2) {
            let &[top, bottom] = vertical else { continue };
            let upper = &scores[(top - first) * width..][..width];
            let lower = &scores[(bottom - first) * width..][..width];
            let inside = |column: usize| (upper[column] >= self.threshold, lower[column] >= self.threshold);
            let mut before = columns.first().map(|&left| inside(left));
            for horizontal in columns.windows(2) {
                let &[left, right] = horizontal else { continue };
                let here = Some(inside(right));
                // Most squares are inside or outside as a whole. This is decided first, for it takes most of the time.
                let crossed = before != here || here.is_some_and(|(top, bottom)| top != bottom);
                before = here;
                if crossed {
                    let corners = [upper[left], upper[right], lower[right], lower[left]];
                    let points = [(left, top), (right, top), (right, bottom), (left, bottom)];
                    self.cross(corners, points.map(|(x, y)| (x as f32, y as f32)), &mut canvas);
                }
            }
        }
        canvas.squares.into_iter().map(f32::sqrt).collect()
    }

    /// The multiples of the step in `start..end`, and the last pixel of the picture if it is in that range. They do not
    /// depend on the band, so neighbouring bands fit together.
    fn nodes(&self, start: usize, end: usize, side: usize) -> Vec<usize> {
        let mut nodes: Vec<usize> = (start.next_multiple_of(self.step)..end).step_by(self.step).collect();
        if end == side && nodes.last() != Some(&(side - 1)) {
            nodes.push(side - 1);
        }
        nodes
    }

    /// Draws the outline within one square that it crosses, with the scores `corners` at `points`, clockwise from the
    /// top left.
    fn cross(&self, corners: [f32; 4], points: [Point; 4], canvas: &mut Canvas) {
        let inside = corners.map(|score| score >= self.threshold);
        // Where the outline crosses each side, clockwise from the top.
        let crossing = |from: usize| {
            let to = (from + 1) % 4;
            let along = (self.threshold - corners[from]) / (corners[to] - corners[from]);
            let ((x0, y0), (x1, y1)) = (points[from], points[to]);
            (x0 + along * (x1 - x0), y0 + along * (y1 - y0))
        };
        let crossed: Vec<usize> = (0..4).filter(|&side| inside[side] != inside[(side + 1) % 4]).collect();
        match crossed[..] {
            [one, two] => canvas.line(crossing(one), crossing(two)),
            // Two opposite corners are inside: the centre decides whether they are connected.
            _ => {
                let centre = corners.iter().sum::<f32>() / 4.0 >= self.threshold;
                let pairs = if centre == inside[0] { [(0, 1), (2, 3)] } else { [(3, 0), (1, 2)] };
                for (one, two) in pairs {
                    canvas.line(crossing(one), crossing(two));
                }
            }
        }
    }
}

/// The distances computed so far.
struct Canvas {
    /// Squared distances: this takes one square root per pixel at the end, rather than one per pixel and line.
    squares: Vec<f32>,
    width: usize,
    first: usize,
    reach: f32,
}

impl Canvas {
    /// Updates the distances around the line from `start` to `end`.
    fn line(&mut self, start: Point, end: Point) {
        let height = self.squares.len() / self.width;
        let first = self.first as f32;
        let range = |low: f32, high: f32, side: usize| {
            // Casts from floats saturate, so a line outside the band gives an empty range.
            let low = (low - self.reach).ceil().max(0.0) as usize;
            low..((high + self.reach).floor() + 1.0).max(0.0).min(side as f32) as usize
        };
        let columns = range(start.0.min(end.0), start.0.max(end.0), self.width);
        let rows = range(start.1.min(end.1) - first, start.1.max(end.1) - first, height);
        let (along_x, along_y) = (end.0 - start.0, end.1 - start.1);
        let squared_length = (along_x * along_x + along_y * along_y).max(f32::MIN_POSITIVE);
        for row in rows {
            let y = row as f32 + first - start.1;
            for column in columns.clone() {
                let x = column as f32 - start.0;
                // The nearest point on the line, as a fraction of its length.
                let part = ((x * along_x + y * along_y) / squared_length).clamp(0.0, 1.0);
                let (off_x, off_y) = (x - part * along_x, y - part * along_y);
                let here = &mut self.squares[row * self.width + column];
                *here = here.min(off_x * off_x + off_y * off_y);
            }
        }
    }
}
