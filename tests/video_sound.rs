//! The sound of films, sample by sample. The films are made by the `ffmpeg` that is installed.
#![allow(clippy::unwrap_used)]

#[path = "common/films.rs"]
mod films;

use films::{H264, assert_in_step, beeps, flashes, make, pictures, samples, small, tone};
use soundsight::Error;
use soundsight::audio::Waveform;
use soundsight::video::Film;

const RATE: f64 = 44_100.0;

/// Pictures, and a sound that says in each sample which one it is: 44.1 kHz, 16 bits without loss, for six seconds.
fn numbered(folder: &std::path::Path, more: &str) -> Film {
    let sound = "-f lavfi -i aevalsrc='mod(n,20011)/32768':s=44100:d=6";
    let name = "numbered.mkv";
    Film::open(make(folder, name, &format!("{} {sound} {H264} -c:a pcm_s16le {more}", pictures("64x48", 25.0, 6.0))))
        .unwrap()
}

#[test]
fn each_sample_is_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let film = numbered(folder.path(), "");
    let sample = |n: usize| (n % 20_011) as f32 / 32_768.0;
    for (from, to) in [(0.0, None), (0.0, Some(0.01)), (1.234_567, Some(3.0)), (2.0, None), (5.99, Some(20.0))] {
        let found = samples(&film, from, to);
        let (first, end) = ((from * RATE).round() as usize, to.map_or(6.0, |to: f64| to.min(6.0)));
        assert_eq!(found.len(), (end * RATE).round() as usize - first, "{from} to {to:?}");
        for (n, found) in found.iter().enumerate() {
            assert!((found - sample(first + n)).abs() < 1e-4, "{from} to {to:?}: sample {n} is {found}");
        }
    }
    let chunks: Vec<_> = film.sound(1.0, Some(2.0)).unwrap().map(|chunk| chunk.unwrap().len()).collect();
    assert!(chunks.iter().all(|&length| (1..=44_100 / 8).contains(&length)), "{chunks:?}");
    assert_eq!(film.sound(1.0, None).unwrap().sample_rate(), 44_100);
}

#[test]
fn channels_are_mixed_by_their_mean() {
    let folder = tempfile::tempdir().unwrap();
    for channels in [1, 2, 6] {
        let levels: Vec<String> = (0..channels).map(|channel| format!("{}", 0.1 + 0.1 * f64::from(channel))).collect();
        let sound = format!("-f lavfi -i aevalsrc={}:s=48000:d=1", levels.join("|"));
        let film = make(folder.path(), "film.mkv", &format!("{} {sound} -c:a pcm_s16le", pictures("64x48", 25.0, 1.0)));
        let film = Film::open(film).unwrap();
        assert_eq!(film.info().sound.as_ref().unwrap().channels, channels as u16);
        let mean = 0.1 + 0.05 * (channels - 1) as f32;
        let found = samples(&film, 0.25, Some(0.75));
        assert_eq!(found.len(), 24_000);
        assert!(found.iter().all(|sample| (sample - mean).abs() < 1e-3), "{channels} channels: {}", found[0]);
    }
}

#[test]
fn a_compressed_sound_is_the_one_that_the_audio_module_reads() {
    let folder = tempfile::tempdir().unwrap();
    let path = small(folder.path(), "film.mp4");
    let film = Film::open(&path).unwrap();
    let found = samples(&film, 0.0, None);
    let waveform = Waveform::open(&path).unwrap();
    // Where the encoder's padding is cut off differs, but not what is between.
    let score = |shift: usize| -> f32 {
        (0..96_000).map(|n| found[n + 2048] * waveform.samples()[n + 2048 + shift - 1024]).sum()
    };
    let best = (0..2048).max_by(|&a, &b| score(a).total_cmp(&score(b))).unwrap();
    assert!(score(best) > 0.0);
    // From the middle on it is the same as in the whole, also right at the beginning.
    let part = samples(&film, 1.5, None);
    for (n, (part, whole)) in part.iter().zip(&found[72_000..]).enumerate() {
        assert!((part - whole).abs() < 1e-3, "sample {n}: {part}, {whole}");
    }
    assert_eq!(part.len(), found.len() - 72_000);
}

#[test]
fn a_late_sound_comes_after_silence() {
    let folder = tempfile::tempdir().unwrap();
    for delay in [0.3, 2.0] {
        let late = format!("-itsoffset {delay} {}", beeps(4.0));
        let film = make(folder.path(), "late.mkv", &format!("{} {late} {H264} -c:a pcm_s16le", flashes(5.0)));
        let film = Film::open(film).unwrap();
        assert!((film.info().sound.as_ref().unwrap().start - delay).abs() < 2e-3);
        let whole = samples(&film, 0.0, None);
        assert_eq!(whole.iter().position(|sample| sample.abs() > 0.1).unwrap() / 480, (delay * 100.0) as usize);
        for from in [0.1, 0.29, 1.0, 2.5] {
            let part = samples(&film, from, None);
            let start = (from * 48_000.0_f64).round() as usize;
            assert_eq!(part.len(), whole.len() - start);
            let differs = part.iter().zip(&whole[start..]).position(|(a, b)| (a - b).abs() > 1e-3);
            assert_eq!(differs, None, "a delay of {delay} s, from {from} s on");
        }
        assert!(samples(&film, 0.0, Some(0.2)).iter().all(|&sample| sample == 0.0));
    }
}

#[test]
fn sound_is_in_step_in_every_container() {
    let folder = tempfile::tempdir().unwrap();
    for (name, more) in [
        ("film.mp4", "-c:a aac"),
        ("film.mkv", "-c:a libopus"),
        ("film.ts", "-c:a aac"),
        ("film.avi", "-c:a mp3 -c:v mpeg4"),
    ] {
        let film = make(folder.path(), name, &format!("{} {} {H264} {more}", flashes(3.5), beeps(3.5)));
        assert_in_step(&Film::open(film).unwrap(), &[0.0, 1.0, 2.0, 3.0]);
    }
}

#[test]
fn a_gap_is_filled() {
    let folder = tempfile::tempdir().unwrap();
    let sound = format!("{} -af aselect='not(between(t,1.5,2.5))'", beeps(4.5));
    let film = make(folder.path(), "gap.mkv", &format!("{} {sound} {H264} -c:a pcm_s16le", flashes(4.5)));
    let times = films::beep_times(&Film::open(film).unwrap());
    assert_eq!(times.len(), 4, "{times:?}");
    for (found, expected) in times.iter().zip([0.0, 1.0, 3.0, 4.0]) {
        assert!((found - expected).abs() < 0.02, "{times:?}");
    }
}

#[test]
fn sound_may_be_longer_or_shorter_than_the_pictures() {
    let folder = tempfile::tempdir().unwrap();
    for (pictures_last, sound_lasts) in [(1.0, 3.0), (3.0, 1.0)] {
        let arguments =
            format!("{} {} {H264} -c:a pcm_s16le", pictures("64x48", 25.0, pictures_last), tone(sound_lasts));
        let film = Film::open(make(folder.path(), "film.mkv", &arguments)).unwrap();
        assert!((film.info().seconds - 3.0).abs() < 0.05);
        assert_eq!(samples(&film, 0.0, None).len(), (sound_lasts * 48_000.0) as usize);
        assert_eq!(films::frames(&film, &Default::default()).len(), (pictures_last * 25.0) as usize);
        if sound_lasts < 2.0 {
            assert!(samples(&film, 2.0, None).is_empty());
        }
    }
}

#[test]
fn no_sound_and_unusable_samples() {
    let folder = tempfile::tempdir().unwrap();
    let silent =
        Film::open(make(folder.path(), "silent.mp4", &format!("{} {H264}", pictures("64x48", 25.0, 1.0)))).unwrap();
    assert_eq!(silent.info().sound, None);
    match silent.sound(0.0, None) {
        Err(Error::Film { expected, found, .. }) => assert_eq!((&*expected, &*found), ("a sound track", "none")),
        other => panic!("{other:?}"),
    }
    let sound = "-f lavfi -i aevalsrc='if(gt(t,0.5),0/0,0)':s=48000:d=1";
    let film = format!("{} {sound} {H264} -c:a pcm_f32le", pictures("64x48", 25.0, 1.0));
    let film = Film::open(make(folder.path(), "nan.mkv", &film)).unwrap();
    let mut sound = film.sound(0.0, None).unwrap().skip_while(Result::is_ok);
    match sound.next() {
        Some(Err(Error::Film { found, .. })) => assert!(found.contains("NaN at 0.500 s"), "{found}"),
        other => panic!("{other:?}"),
    }
    assert!(sound.next().is_none());
}
