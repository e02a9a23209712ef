//! What a bench measured: a table for people, JSON for machines.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    Lower,
    Higher,
}

/// The rounds of one figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Figure {
    median: f64,
    min: f64,
    max: f64,
}

impl Figure {
    /// `None` when nothing was measured.
    pub(crate) fn of(rounds: &[f64]) -> Option<Self> {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            *sorted.get(middle)?
        } else {
            f64::midpoint(*sorted.get(middle - 1)?, *sorted.get(middle)?)
        };
        Some(Self { median, min, max })
    }
}

/// One metric of one bench.
#[derive(Debug, Serialize)]
pub(crate) struct Metric {
    pub(crate) metric: String,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) ours: Figure,
    pub(crate) peers: BTreeMap<&'static str, Figure>,
    /// The peer that the ratio is taken against.
    pub(crate) against: Option<&'static str>,
    /// Ours divided by that peer's, medians.
    pub(crate) ratio: Option<f64>,
    /// The ratio that we aim for.
    pub(crate) goal: Option<f64>,
    pub(crate) rounds: usize,
    pub(crate) commit: &'static str,
}

impl Metric {
    fn met(&self) -> Option<bool> {
        let (ratio, goal) = (self.ratio?, self.goal?);
        Some(match self.better {
            Better::Lower => ratio <= goal,
            Better::Higher => goal <= ratio,
        })
    }
}

/// All metrics of one bench, and the peers that are not on this machine.
#[derive(Debug, Default)]
pub(crate) struct Report {
    metrics: Vec<Metric>,
    absent: Vec<String>,
}

impl Report {
    /// Takes the rounds of ours and of one peer. Nothing is added where ours was not measured.
    pub(crate) fn add(
        &mut self,
        (metric, unit, better): (String, &'static str, Better),
        ours: &[f64],
        peer: Option<(&'static str, &[f64])>,
        goal: Option<f64>,
    ) {
        let Some(figure) = Figure::of(ours) else { return };
        let peer = peer.and_then(|(name, rounds)| Some((name, Figure::of(rounds)?)));
        self.metrics.push(Metric {
            metric,
            unit,
            better,
            ours: figure,
            peers: peer.into_iter().collect(),
            against: peer.map(|it| it.0),
            ratio: peer.map(|(_, it)| figure.median / it.median).filter(|it| it.is_finite()),
            goal,
            rounds: ours.len(),
            commit: crate::machine_facts::commit(),
        });
    }

    /// Names a peer that is not here, and what brings it.
    pub(crate) fn absent(&mut self, peer: &str, brought_by: &str) {
        self.absent.push(format!("{peer} is not on this machine; {brought_by}"));
    }

    /// The list of metrics.
    pub(crate) fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(&self.metrics).map(|it| it + "\n")
    }
}

fn shown(figure: Figure) -> String {
    let digits = if figure.median < 10.0 { 2 } else { 0 };
    let Figure { median, min, max } = figure;
    format!("{median:.digits$} ({min:.digits$}–{max:.digits$})")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![["metric", "unit", "ours", "peer", "ratio", "goal"].map(str::to_owned)];
        for it in &self.metrics {
            let peers = it.peers.iter().map(|(name, it)| format!("{name}: {}", shown(*it)));
            let goal = it.goal.map_or_else(String::new, |goal| {
                let sign = if it.better == Better::Lower { "≤" } else { "≥" };
                let met = match it.met() {
                    Some(true) => "met",
                    Some(false) => "MISSED",
                    None => "no peer",
                };
                format!("{sign} {goal} {met}")
            });
            rows.push([
                it.metric.clone(),
                it.unit.to_owned(),
                shown(it.ours),
                peers.collect::<Vec<_>>().join(", "),
                it.ratio.map_or_else(String::new, |it| format!("{it:.2}")),
                goal,
            ]);
        }
        let mut widths = [0; 6];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for row in &rows {
            for (width, cell) in widths.iter().zip(row) {
                write!(f, "{cell:width$}  ")?;
            }
            writeln!(f)?;
        }
        writeln!(f, "medians of the rounds (minimum–maximum)")?;
        self.absent.iter().try_for_each(|it| writeln!(f, "{it}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: (&str, Better) = ("1/s", Better::Higher);

    fn report(ours: &[f64], peer: &[f64], goal: f64) -> Report {
        let mut report = Report::default();
        report.add(("rate".to_owned(), RATE.0, RATE.1), ours, Some(("other", peer)), Some(goal));
        report
    }

    #[test]
    fn a_figure_is_the_median_with_its_extremes() {
        assert_eq!(Figure::of(&[3.0, 1.0, 2.0]), Some(Figure { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Figure::of(&[4.0, 1.0]), Some(Figure { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Figure::of(&[]), None);
    }

    #[test]
    fn the_ratio_is_ours_against_the_peer_and_a_missed_goal_is_called_missed() {
        let text = report(&[30.0], &[10.0], 2.0).to_string();
        assert!(text.contains("3.00") && text.contains("≥ 2 met"), "{text}");
        assert!(report(&[30.0], &[10.0], 4.0).to_string().contains("≥ 4 MISSED"));
        assert!(report(&[30.0], &[], 4.0).to_string().contains("no peer"));
    }

    #[test]
    fn the_json_has_the_agreed_names() {
        let json = report(&[30.0, 40.0], &[10.0], 2.0).json().unwrap();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value[0]["metric"], "rate");
        assert_eq!(value[0]["better"], "higher");
        assert_eq!(value[0]["ours"]["median"], 35.0);
        assert_eq!(value[0]["peers"]["other"]["max"], 10.0);
        assert_eq!(value[0]["against"], "other");
        assert_eq!(value[0]["ratio"], 3.5);
        assert_eq!(value[0]["rounds"], 2);
        assert!(value[0]["commit"].is_string());
    }
}
