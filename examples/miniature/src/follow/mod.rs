//! Films: how well the sources are followed.
#![allow(clippy::print_stdout, unsafe_code)] // a program talks

mod measure;

use anyhow::Result;
use soundsight::Localizer;
use soundsight::watch::{Smoothing, WatchOptions};

use crate::films::FilmSettings;
use crate::world::{Split, World};
use measure::{Method, films, measure};

/// Scratch.
pub fn explore(world: &World) -> Result<()> {
    let localizer = Localizer::load("embedded")?;
    let var = |name: &str| std::env::var(name).ok();
    let count: usize = var("FILMS").and_then(|v| v.parse().ok()).unwrap_or(24);
    let split = if var("SPLIT").is_some() { Split::Train } else { Split::HeldOut };
    let settings = FilmSettings { side: 64, frame_rate: 5.0, seconds: 14.0 };
    let start = std::time::Instant::now();
    let all = films(world, count, &settings, split, 7);
    println!("rendered {count} in {:?}", start.elapsed());
    let plan = std::fs::read_to_string(var("PLAN").unwrap_or("/tmp/plan".into()))?;
    for line in plan.lines().filter(|line| !line.trim().is_empty()) {
        let mut options = WatchOptions { smoothing: None, ..Default::default() };
        let mut smoothing = Smoothing::default();
        let mut dump = None;
        let mut first = false;
        let mut centre = false;
        let mut still = false;
        for word in line.split_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match key {
                "window" => options.window = value.parse()?,
                "hop" => options.hop = Some(value.parse()?),
                "repeat" => options.repeat = value == "1",
                "hearing" => smoothing.hearing = value.parse()?,
                "seeing" => smoothing.seeing = value.parse()?,
                "tau" => smoothing.tolerance = value.parse()?,
                "motion" => smoothing.follow_motion = value == "1",
                "smooth" => options.smoothing = Some(smoothing.clone()),
                "dump" => dump = Some(value.to_string()),
                "PASS2" | "TRUST" | "LOUD" | "CORR" => unsafe {
                    if value.is_empty() { std::env::remove_var(key) } else { std::env::set_var(key, value) }
                },
                "still" => still = true,
                "first" => first = true,
                "centre" => centre = true,
                _ => anyhow::bail!("{key}?"),
            }
        }
        let method = if still { Method::Still } else if centre { Method::Centre } else if first { Method::First(options) } else { Method::Watch(options) };
        let start = std::time::Instant::now();
        let o = measure(&localizer, world, &all, &method, dump.as_deref())?;
        println!("peak {:.3} which {:.3} ciou {:.3} both {:.3} auroc {:.3} ({:.3} {:.3}) f1 {:.3} switch {:.3} {:.2}s jitter {:.2} | {line} [{:.1}s]",
            o.peak, o.which, o.ciou, o.both, o.auroc, o.auroc_silent, o.auroc_absent, o.f1, o.switched, o.switch_seconds, o.jitter, start.elapsed().as_secs_f64());
    }
    Ok(())
}
