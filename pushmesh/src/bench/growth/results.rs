//! What was measured, as tables with slopes.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::{rest::Used, slope::Line};
use crate::bench::Verdict;

const MIB: f64 = 1024.0 * 1024.0;

/// What is printed; the keys are a contract.
#[derive(Debug, Default, Serialize)]
pub struct Results {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<Part>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rooms: Option<Part>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<Part>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memberships: Option<Part>,
}

/// One thing that grew.
#[derive(Debug, Serialize)]
pub struct Part {
    /// What one of them is, and several.
    #[serde(skip)]
    names: [&'static str; 2],
    rows: Vec<Row>,
    slopes: Slopes,
}

/// What it cost at one size.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Row {
    pub size: u64,
    /// By service. Where an owner was replaced, it is the new one's, which has read everything.
    pub rss_mib: BTreeMap<String, f64>,
    pub cpu_ms_per_s: BTreeMap<String, f64>,
    #[serde(flatten)]
    pub owned: Option<Owned>,
}

/// What an owner's end showed.
#[derive(Debug, Clone, Serialize)]
pub struct Owned {
    /// Through the service's door, until the owner held them.
    pub stored_per_s: f64,
    /// Of the owner through whose door they came, just before it was killed.
    pub loaded_rss_mib: f64,
    /// From the kill until another process answered for all partitions and held everything; `None` if it did not get there.
    pub take_over_s: Option<f64>,
}

/// The lines of least squares.
#[derive(Debug, Default, Serialize)]
struct Slopes {
    /// By service: bytes for each more, MiB for none.
    rss: BTreeMap<String, Line>,
    /// By service: microseconds of CPU a second for each more, milliseconds a second for none.
    cpu: BTreeMap<String, Line>,
    /// Microseconds for each more, seconds for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    take_over: Option<Line>,
    /// Of owners through whose door all came: bytes for each more, MiB for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    loaded_rss: Option<Line>,
}

impl Row {
    pub fn new(size: u64, Used { rss_mib, cpu_ms_per_s }: Used) -> Self {
        Self { size, rss_mib, cpu_ms_per_s, owned: None }
    }
}

impl Part {
    pub fn new(names: [&'static str; 2], rows: Vec<Row>) -> Self {
        let by_service = |of: fn(&Row) -> &BTreeMap<String, f64>, units: f64| {
            let names = rows.first().map(|row| of(row).keys().cloned()).into_iter().flatten();
            let points = |name: &str| -> Vec<_> {
                rows.iter().filter_map(|row| of(row).get(name).map(|value| (row.size, *value))).collect()
            };
            names.filter_map(|name| Some((name.clone(), Line::through(&points(&name), units)?))).collect()
        };
        let of_owners = |of: fn(&Owned) -> Option<f64>, units: f64| {
            let points: Vec<_> = rows.iter().filter_map(|row| Some((row.size, of(row.owned.as_ref()?)?))).collect();
            Line::through(&points, units)
        };
        let slopes = Slopes {
            rss: by_service(|row| &row.rss_mib, MIB),
            cpu: by_service(|row| &row.cpu_ms_per_s, 1000.0),
            take_over: of_owners(|owned| owned.take_over_s, 1e6),
            loaded_rss: of_owners(|owned| Some(owned.loaded_rss_mib), MIB),
        };
        Self { names, rows, slopes }
    }
}

impl Verdict for Results {
    // Growth has no goals: its slopes are what capacities are computed from.
    fn missed(&self) -> Vec<String> {
        Vec::new()
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [&self.connections, &self.rooms, &self.pending, &self.memberships];
        for part in parts.into_iter().flatten() {
            writeln!(f, "{part}")?;
        }
        write!(f, "slopes are lines of least squares through all sizes of a row")
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, several] = self.names;
        write!(f, "{several:<26}")?;
        self.rows.iter().try_for_each(|row| write!(f, "{:>10}", row.size))?;
        writeln!(f)?;
        let line = |f: &mut fmt::Formatter<'_>, name: &str, values: Vec<Option<f64>>, slope: Option<(&Line, &str)>| {
            write!(f, "{name:<26}")?;
            values.iter().try_for_each(|value| match value {
                Some(value) => write!(f, "{value:>10.2}"),
                None => write!(f, "{:>10}", "never"),
            })?;
            match slope {
                Some((Line { per_one, r2, .. }, unit)) => writeln!(f, "   {per_one} {unit} (r² {r2})"),
                None => writeln!(f),
            }
        };
        let of = |of: fn(&Row) -> &BTreeMap<String, f64>, name: &str| -> Vec<Option<f64>> {
            self.rows.iter().map(|row| of(row).get(name).copied()).collect()
        };
        let (bytes, us) = (format!("bytes a {one}"), format!("µs/s a {one}"));
        for (name, slope) in &self.slopes.rss {
            line(f, &format!("{name} MiB"), of(|row| &row.rss_mib, name), Some((slope, &bytes)))?;
        }
        for (name, slope) in &self.slopes.cpu {
            line(f, &format!("{name} CPU ms/s"), of(|row| &row.cpu_ms_per_s, name), Some((slope, &us)))?;
        }
        let owned: Vec<_> = self.rows.iter().filter_map(|row| row.owned.as_ref()).collect();
        if !owned.is_empty() {
            let of = |of: fn(&Owned) -> Option<f64>| owned.iter().map(|owned| of(owned)).collect();
            let Slopes { take_over, loaded_rss, .. } = &self.slopes;
            let us = format!("µs a {one}");
            line(f, "take-over s", of(|owned| owned.take_over_s), take_over.as_ref().map(|line| (line, &*us)))?;
            let loaded = loaded_rss.as_ref().map(|line| (line, &*bytes));
            line(f, "MiB before the kill", of(|owned| Some(owned.loaded_rss_mib)), loaded)?;
            line(f, "stored a second", of(|owned| Some(owned.stored_per_s)), None)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(size: u64, comet_mib: f64, owned: Option<f64>) -> Row {
        let of = |value| BTreeMap::from([("comet".to_owned(), value)]);
        let loaded_rss_mib = 2.0 * comet_mib;
        let owned = owned.map(|seconds| Owned { stored_per_s: 1.0, loaded_rss_mib, take_over_s: Some(seconds) });
        Row { size, rss_mib: of(comet_mib), cpu_ms_per_s: of(size as f64 / 100.0), owned }
    }

    #[test]
    fn slopes_are_for_each_more() {
        let part =
            Part::new(["connection", "connections"], vec![row(1000, 11.0, Some(1.1)), row(3000, 13.0, Some(1.3))]);
        let printed = serde_json::to_value(&part).unwrap();
        assert_eq!(printed["slopes"]["rss"]["comet"]["per_one"], 1048.576);
        assert_eq!(printed["slopes"]["rss"]["comet"]["at_none"], 10.0);
        assert_eq!(printed["slopes"]["cpu"]["comet"]["per_one"], 10.0);
        assert_eq!(printed["slopes"]["take_over"]["per_one"], 100.0);
        assert_eq!(printed["slopes"]["loaded_rss"]["per_one"], 2097.152);
        assert_eq!(printed["rows"][1]["take_over_s"], 1.3);
        assert!(part.to_string().contains("1048.576 bytes a connection (r² 1)"), "{part}");
    }

    #[test]
    fn one_that_nobody_took_over_is_told_and_on_no_line() {
        let mut rows = vec![row(1, 1.0, Some(1.0)), row(3, 1.0, Some(2.0)), row(9, 1.0, Some(0.0))];
        rows[2].owned.as_mut().unwrap().take_over_s = None;
        let part = Part::new(["push", "pushes"], rows);
        assert_eq!(part.slopes.take_over.unwrap().per_one, 500_000.0);
        assert!(serde_json::to_value(&part).unwrap()["rows"][2]["take_over_s"].is_null());
        assert!(part.to_string().contains("never"), "{part}");
    }

    #[test]
    fn what_was_not_measured_is_not_told() {
        let results =
            Results { rooms: Some(Part::new(["room", "rooms"], vec![row(1, 1.0, None)])), ..Results::default() };
        let printed = serde_json::to_value(&results).unwrap();
        assert_eq!(printed.as_object().unwrap().keys().collect::<Vec<_>>(), ["rooms"]);
        assert_eq!(printed["rooms"]["slopes"], serde_json::json!({"rss": {}, "cpu": {}}), "one size has no slope");
        assert!(printed["rooms"]["rows"][0].get("take_over_s").is_none());
    }
}
