//! `--bench`: what the way through agent and relay costs, beside a direct connection to the same app.

use crate::failure::{Because as _, Failure};
use crate::load::{Figures, Target, requests, streams};
use crate::report::say;
use crate::sign_in::{SignIn, app};
use crate::stage::{Scene, Stage};
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::time::Duration;

/// A row of the table: a figure of the direct way and of ours.
struct Row {
    name: String,
    unit: &'static str,
    direct: f64,
    postern: f64,
}

/// How long and how often.
struct Plan {
    rounds: usize,
    time: Duration,
    streams: usize,
}

pub(crate) async fn run(stage: &mut Stage, quick: bool, as_json: bool) -> Result<(), Failure> {
    let plan = if quick {
        Plan { rounds: 1, time: Duration::from_secs(1), streams: 200 }
    } else {
        Plan { rounds: 3, time: Duration::from_secs(5), streams: 1000 }
    };
    let scene = stage.raise(true).await?;
    SignIn::by_itself(&scene).await?;
    let before = load_average();
    let rows = measure(&scene, &plan).await?;
    print(&rows, &before, &plan);
    if as_json {
        say(&as_object(&rows, &before, quick).to_string());
    }
    Ok(())
}

async fn measure(scene: &Scene, plan: &Plan) -> Result<Vec<Row>, Failure> {
    let direct = Target { address: scene.apps.plain, host: scene.apps.plain.to_string() };
    let address = (Ipv4Addr::LOCALHOST, scene.http_port).into();
    let postern = Target { address, host: format!("plain.localhost:{}", scene.http_port) };
    let mut rows = Vec::new();
    for connections in [1, 32] {
        let mut rounds = Rounds::default();
        for _ in 0..plan.rounds {
            rounds.direct.push(requests(&direct, connections, plan.time).await?);
            rounds.postern.push(requests(&postern, connections, plan.time).await?);
        }
        rows.push(rounds.row(&format!("requests, {connections} at a time"), "/s", |figures| figures.per_second));
        rows.push(rounds.row("  p50", "us", |figures| micros(figures.p50)));
        rows.push(rounds.row("  p99", "us", |figures| micros(figures.p99)));
    }
    let local = app(scene, "echo").await?.local.parse().because("the local port of echo")?;
    let mut rounds = Rounds::default();
    for _ in 0..plan.rounds {
        rounds.direct.push(streams(scene.apps.echo, plan.streams).await?);
        rounds.postern.push(streams(local, plan.streams).await?);
    }
    rows.push(rounds.row("new TCP stream to first byte, p50", "us", |figures| micros(figures.p50)));
    rows.push(rounds.row("  p99", "us", |figures| micros(figures.p99)));
    Ok(rows)
}

/// Rounds alternate, so that a disturbance meets both.
#[derive(Default)]
struct Rounds {
    direct: Vec<Figures>,
    postern: Vec<Figures>,
}

impl Rounds {
    fn row(&self, name: &str, unit: &'static str, of: impl Fn(&Figures) -> f64) -> Row {
        let median = |all: &[Figures]| {
            let mut values: Vec<_> = all.iter().map(&of).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
        };
        Row { name: name.into(), unit, direct: median(&self.direct), postern: median(&self.postern) }
    }
}

fn print(rows: &[Row], before: &str, plan: &Plan) {
    say(&format!("{:<36} {:>5} {:>12} {:>12} {:>8}", "", "unit", "direct", "postern", "ratio"));
    for Row { name, unit, direct, postern } in rows {
        say(&format!("{name:<36} {unit:>5} {direct:>12.0} {postern:>12.0} {:>8.2}", postern / direct));
    }
    say(&format!(
        "\n{}; load average before {before}, after {}. Medians of {} round(s) of {} s; generator, agent, relay and app share the machine.",
        machine(),
        load_average(),
        plan.rounds,
        plan.time.as_secs()
    ));
}

fn as_object(rows: &[Row], before: &str, quick: bool) -> Value {
    let mut group = String::new();
    let mut figures = Vec::new();
    for Row { name, unit, direct, postern } in rows {
        // An indented row belongs to the one above it.
        let full = match name.strip_prefix("  ") {
            Some(name) => format!("{group}, {name}"),
            None => name.clone(),
        };
        if !name.starts_with("  ") {
            group = name.trim_end_matches(", p50").to_owned();
        }
        let (ratio, short) = (postern / direct, |value: f64| (value * 1000.0).round() / 1000.0);
        figures.push(json!({
            "name": full, "unit": unit, "direct": short(*direct), "postern": short(*postern), "ratio": short(ratio),
        }));
    }
    json!({ "bench": "path", "quick": quick, "machine": machine(), "load_before": before, "load_after": load_average(), "figures": figures })
}

/// Processor and number of cores.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{}, {cores} cores", model.map_or("unknown processor", |(_, name)| name))
}

fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("?").to_owned()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
