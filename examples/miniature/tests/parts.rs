//! The statistics, and the disturbances of sounds.
#![allow(clippy::unwrap_used)]

#[path = "../src/disturb.rs"]
mod disturb;
#[path = "../src/statistics.rs"]
mod statistics;
#[path = "../src/world/mod.rs"]
#[allow(dead_code, unused_imports)] // each program uses only a part
mod world;

use disturb::{Disturbance, mixed, white};
use soundsight::data::random::{Purpose, stream};
use statistics::{auroc, discordant, quantile, roc, sign_test};

fn close(value: f64, expected: f64) {
    assert!((value - expected).abs() < 1e-9 * expected.abs().max(1.0), "{value}, expected {expected}");
}

#[test]
fn the_sign_test_counts_coins() {
    close(sign_test(0, 0), 1.0);
    close(sign_test(5, 0), 1.0 / 32.0);
    close(sign_test(0, 5), 1.0);
    // scipy.stats.binomtest(60, 100, alternative="greater").pvalue
    close(sign_test(60, 40), 0.02844396682049039);
    // Either there are at least k heads, or more than n - k tails.
    for (better, worse) in [(3, 9), (250, 262), (700, 300)] {
        close(sign_test(better, worse) + sign_test(worse + 1, better - 1), 1.0);
    }
    let p = sign_test(1900, 100);
    assert!((0.0..1e-300).contains(&p), "{p}");
}

#[test]
fn only_what_one_of_two_got_right_counts() {
    let (first, second) = ([true, true, false, false, true], [true, false, true, false, false]);
    assert_eq!(discordant(first, second), (2, 1));
}

#[test]
fn areas_under_roc_curves() {
    close(auroc(&[3.0, 4.0], &[1.0, 2.0]), 1.0);
    close(auroc(&[1.0, 2.0], &[3.0, 4.0]), 0.0);
    close(auroc(&[1.0, 1.0], &[1.0]), 0.5);
    close(auroc(&[1.0, 3.0], &[2.0, 0.0]), 0.75);
    // The curve has this area under it.
    let (present, absent) = ([0.1, 0.7, 0.7, 0.9], [0.0, 0.2, 0.7]);
    let area: f64 = roc(&present, &absent).windows(2).map(|p| (p[1].0 - p[0].0) * (p[1].1 + p[0].1) / 2.0).sum();
    close(area, auroc(&present, &absent));
    assert_eq!(quantile(&[4.0, 0.0, 3.0, 1.0, 2.0], 0.75), 3.0);
    assert!(quantile(&[], 0.5).is_nan());
}

fn power(samples: &[f32]) -> f64 {
    samples.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / samples.len() as f64
}

/// Half a second of silence, then a tone of `hz`, two seconds in all.
fn tone(hz: f32) -> Vec<f32> {
    let wave =
        |at: usize| if at < 8000 { 0.0 } else { 0.5 * (at as f32 * hz * std::f32::consts::TAU / 16_000.0).sin() };
    (0..32_000).map(wave).collect()
}

fn crossings(samples: &[f32]) -> usize {
    samples.windows(2).filter(|pair| pair[0] <= 0.0 && pair[1] > 0.0).count()
}

#[test]
fn disturbances_do_what_their_names_say() {
    let mut rng = stream(1, Purpose::Validation, 0, 0);
    let sound = tone(440.0);
    let mut after = |disturbance: Disturbance| disturbance.apply(&sound, &mut rng);
    assert_eq!(after(Disturbance::Nothing), sound);
    for snr in [20.0, 0.0] {
        let noise: Vec<f32> = after(Disturbance::Noise(snr)).iter().zip(&sound).map(|(a, b)| a - b).collect();
        let found = 10.0 * (power(&sound) / power(&noise)).log10();
        assert!((found - f64::from(snr)).abs() < 0.01, "{found} dB");
    }
    let louder = after(Disturbance::Gain(12.0));
    assert!((10.0 * (power(&louder) / power(&sound)).log10() - 12.0).abs() < 0.01);
    let clipped = after(Disturbance::Clipped(0.25));
    assert!(clipped.iter().all(|sample| sample.abs() <= 0.126) && power(&clipped) > 0.01);
    for steps in [2.0, -2.0] {
        // The tone plays in the second half of the first second in both cases.
        let shifted = after(Disturbance::Pitch(steps));
        let expected = 440.0 * 2f64.powf(f64::from(steps) / 12.0) * 0.4;
        assert!((crossings(&shifted[9600..16_000]) as f64 - expected).abs() < 3.0, "{steps}");
    }
    let short = after(Disturbance::Short(1.0));
    assert_eq!(short.len(), 16_000);
    // It begins with the tone, not with the silence before it.
    assert!((crossings(&short) as i32 - 440).abs() < 3);
    let mut names: Vec<String> = Disturbance::ALL.into_iter().flat_map(Disturbance::names).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 2 * Disturbance::ALL.len(), "{names:?}");
}

#[test]
fn mixed_sounds_are_equally_loud() {
    let mut rng = stream(1, Purpose::Validation, 0, 0);
    let (first, second) = (white(16_000, &mut rng), white(16_000, &mut rng));
    let quiet: Vec<f32> = second.iter().map(|sample| 0.01 * sample).collect();
    for (a, b) in mixed(&first, &second).iter().zip(mixed(&first, &quiet)) {
        assert!((a - b).abs() < 1e-5);
    }
    assert!((power(&mixed(&first, &quiet)) / power(&first) - 0.5).abs() < 0.02);
}
