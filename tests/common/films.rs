//! Films for tests, made by the `ffmpeg` that is installed, and what is known of them without this crate.
#![allow(dead_code, clippy::unwrap_used, missing_docs)] // each test program uses its part

use std::path::{Path, PathBuf};
use std::process::Command;

use soundsight::video::{Ffmpeg, Film, Frame, FrameOptions};

/// Runs `ffmpeg` with these arguments, divided at spaces, to write the film `name` in `folder`.
#[track_caller]
pub fn make(folder: &Path, name: &str, arguments: &str) -> PathBuf {
    let path = folder.join(name);
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-y"]).args(arguments.split_whitespace());
    command.arg("-protocol_whitelist").arg("file,pipe").arg(format!("file:{}", path.display()));
    let output = command.output().expect("these tests need ffmpeg: apt-get install ffmpeg");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    path
}

/// A film of three seconds, 64 × 48 pixels at 25 Hz, each frame unlike the others, with a tone.
#[track_caller]
pub fn small(folder: &Path, name: &str) -> PathBuf {
    make(folder, name, &format!("{} {} {H264} -c:a aac", pictures("64x48", 25.0, 3.0), tone(3.0)))
}

/// A copy of an MP4 film that players turn by 90° clockwise.
#[track_caller]
pub fn turned(folder: &Path, film: &Path) -> PathBuf {
    let mut bytes = std::fs::read(film).unwrap();
    // The matrix is in the header of the track.
    let header = bytes.windows(4).position(|window| window == b"tkhd").unwrap();
    let height: i32 = ffprobe(film, "stream=height")[0].parse().unwrap();
    let matrix: [i32; 9] = [0, 1 << 16, 0, -(1 << 16), 0, 0, height << 16, 0, 1 << 30];
    let matrix: Vec<u8> = matrix.into_iter().flat_map(i32::to_be_bytes).collect();
    bytes[header + 44..][..36].copy_from_slice(&matrix);
    let path = folder.join("turned.mp4");
    std::fs::write(&path, bytes).unwrap();
    path
}

/// The arguments for H.264 with B-frames and few key frames.
pub const H264: &str = "-c:v libx264 -preset veryfast -bf 3 -g 250 -pix_fmt yuv420p";

/// The input: a moving test pattern.
pub fn pictures(size: &str, rate: f64, seconds: f64) -> String {
    format!("-f lavfi -i testsrc=size={size}:rate={rate}:duration={seconds}")
}

/// The input: a tone at 48 kHz.
pub fn tone(seconds: f64) -> String {
    format!("-f lavfi -i sine=frequency=440:sample_rate=48000:duration={seconds}")
}

/// The input: a black picture that is white for 80 ms at each full second.
pub fn flashes(seconds: f64) -> String {
    let white = "lum='if(lt(mod(T,1),0.0799),235,16)':cb=128:cr=128";
    format!("-f lavfi -i color=black:size=64x48:rate=25:duration={seconds},geq={white}")
}

/// The input: silence, with a tone of 80 ms at each full second.
pub fn beeps(seconds: f64) -> String {
    format!("-f lavfi -i aevalsrc='if(lt(mod(t,1),0.08),0.5*sin(2*PI*1000*t),0)':s=48000:d={seconds}")
}

/// All frames, which must come without an error.
#[track_caller]
pub fn frames(film: &Film, options: &FrameOptions) -> Vec<Frame> {
    film.frames(options).unwrap().map(|frame| frame.unwrap()).collect()
}

/// All samples from `from` to `to`, which must come without an error.
#[track_caller]
pub fn samples(film: &Film, from: f64, to: Option<f64>) -> Vec<f32> {
    film.sound(from, to).unwrap().flat_map(|chunk| chunk.unwrap()).collect()
}

/// When the white pictures begin, in seconds.
pub fn flash_times(film: &Film) -> Vec<f64> {
    let frames = frames(film, &FrameOptions::default());
    onsets(frames.iter().map(|frame| (frame.time, frame.picture.pixels()[0] > 128)), 0.0)
}

/// When the tones begin, in seconds.
pub fn beep_times(film: &Film) -> Vec<f64> {
    let Some(sound) = &film.info().sound else { return Vec::new() };
    let rate = f64::from(sound.sample_rate);
    let samples = samples(film, 0.0, None);
    onsets(samples.iter().enumerate().map(|(n, sample)| (n as f64 / rate, sample.abs() > 0.1)), 0.05)
}

/// The times at which something begins after at least `pause` seconds without it.
fn onsets(signal: impl Iterator<Item = (f64, bool)>, pause: f64) -> Vec<f64> {
    let (mut times, mut last) = (Vec::new(), f64::NEG_INFINITY);
    let mut before = false;
    for (time, on) in signal {
        if on && !before && time - last >= pause {
            times.push(time);
        }
        if on {
            last = time;
        }
        before = on;
    }
    times
}

/// Asserts that flashes and beeps begin together, to 20 ms, and at `times` to 45 ms: a film begins where its first track
/// does, which may be padding of the encoder or its delay.
#[track_caller]
pub fn assert_in_step(film: &Film, times: &[f64]) {
    let (flashes, beeps) = (flash_times(film), beep_times(film));
    let close = |a: &[f64], b: &[f64], by: f64| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= by);
    let in_step = close(&flashes, &beeps, 0.02) && close(&flashes, times, 0.045);
    assert!(in_step, "{}: flashes {flashes:?}, beeps {beeps:?}, expected {times:?}", film.path().display());
}

/// What `ffprobe` says: one line for each frame, packet or stream.
#[track_caller]
pub fn ffprobe(path: &Path, entries: &str) -> Vec<String> {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-select_streams", "v:0", "-of", "csv=p=0", "-show_entries", entries]).arg(path);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| line.trim_end_matches(',').to_owned()).filter(|line| !line.is_empty()).collect()
}

/// The times of the pictures according to `ffprobe`, from the beginning of the film.
#[track_caller]
pub fn true_times(path: &Path) -> Vec<f64> {
    let start: f64 = ffprobe(path, "format=start_time")[0].parse().unwrap();
    let times = ffprobe(path, "frame=best_effort_timestamp_time");
    times.iter().map(|time| time.split(',').next().unwrap().parse::<f64>().unwrap() - start).collect()
}

/// Asserts that these times are the same to 2 µs.
#[track_caller]
pub fn assert_times(found: &[f64], expected: &[f64]) {
    let same = found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 2e-6);
    assert!(same, "found {found:?}, expected {expected:?}");
}

/// The times of `frames`.
pub fn times(frames: &[Frame]) -> Vec<f64> {
    frames.iter().map(|frame| frame.time).collect()
}

/// Programs that write down the numbers of their processes, and then are the real ones.
#[cfg(unix)]
pub struct Watched {
    pub ffmpeg: Ffmpeg,
    list: PathBuf,
}

#[cfg(unix)]
impl Watched {
    pub fn new(folder: &Path) -> Self {
        let list = folder.join("processes");
        let program =
            |name: &str| script(folder, name, &format!("echo $$ >> '{}'\nexec {name} \"$@\"", list.display()));
        Self { ffmpeg: Ffmpeg { ffmpeg: program("ffmpeg"), ffprobe: program("ffprobe") }, list }
    }

    /// The numbers of all processes so far.
    pub fn processes(&self) -> Vec<String> {
        std::fs::read_to_string(&self.list).unwrap_or_default().lines().map(String::from).collect()
    }

    /// Those that are still there, be it as zombies.
    pub fn left(&self) -> Vec<String> {
        self.processes().into_iter().filter(|process| Path::new("/proc").join(process).exists()).collect()
    }

    /// Kills the latest.
    pub fn kill_latest(&self) {
        let latest = self.processes().pop().unwrap();
        assert!(Command::new("sh").args(["-c", &format!("kill -9 {latest}")]).status().unwrap().success());
    }
}

/// A program of these lines of shell.
#[cfg(unix)]
pub fn script(folder: &Path, name: &str, lines: &str) -> PathBuf {
    let programs = folder.join("programs");
    std::fs::create_dir_all(&programs).unwrap();
    let path = programs.join(name);
    // Written by a process of its own: while this one had it open for writing, a process that another test starts could
    // inherit it, and then it could not be run ("text file busy").
    let write = "cat > \"$0\" && chmod +x \"$0\"";
    let mut shell =
        Command::new("sh").args(["-c", write]).arg(&path).stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut shell.stdin.take().unwrap(), format!("#!/bin/sh\n{lines}\n").as_bytes()).unwrap();
    assert!(shell.wait().unwrap().success());
    path
}
