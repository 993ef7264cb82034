//! Medians and ratios.

use std::time::Duration;

use crate::contender::Contender;

/// What one measurement gave.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Measured {
    /// How long it took, all in all.
    Time(Duration),
    /// How much memory the server had.
    Memory(u64),
    /// Nothing: the contender has no such thing.
    Nothing,
}

/// All measurements, in the order in which their names were first seen.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<(String, [Vec<f64>; Contender::ALL.len()])>,
    is_memory: Vec<bool>,
}

impl Table {
    /// Begins an empty table.
    pub(crate) fn new() -> Table {
        Table::default()
    }

    /// Adds a measurement.
    pub(crate) fn add(&mut self, name: &str, contender: Contender, measured: Measured) {
        let value = match measured {
            Measured::Time(time) => time.as_secs_f64() * 1e3,
            Measured::Memory(bytes) => bytes as f64 / f64::from(1 << 20),
            Measured::Nothing => return,
        };
        let known = self.rows.iter().position(|(known, _)| known == name);
        let row = known.unwrap_or_else(|| {
            self.rows.push((name.to_owned(), Default::default()));
            self.is_memory.push(matches!(measured, Measured::Memory(_)));
            self.rows.len() - 1
        });
        self.rows[row].1[contender as usize].push(value);
    }

    /// Prints a line a workload: each one's median, and how ply's compares.
    pub(crate) fn print(mut self) {
        print!("| workload |");
        for contender in Contender::ALL {
            print!(" {} |", contender.name());
        }
        println!(" ply / overlayfs | ply / fuse-overlayfs |");
        println!("| --- |{}", " ---: |".repeat(Contender::ALL.len() + 2));
        for ((name, values), is_memory) in self.rows.iter_mut().zip(&self.is_memory) {
            let unit = if *is_memory { "MiB" } else { "ms" };
            let medians = values.each_mut().map(|values| median(values));
            print!("| {name} |");
            for median in medians {
                match median {
                    Some(median) if median < 10.0 => print!(" {median:.2} {unit} |"),
                    Some(median) => print!(" {median:.0} {unit} |"),
                    None => print!(" |"),
                }
            }
            let ours = medians[Contender::Ply as usize];
            for other in [Contender::Overlayfs, Contender::FuseOverlayfs] {
                match (ours, medians[other as usize]) {
                    (Some(ours), Some(other)) => print!(" {:.2} |", ours / other),
                    _ => print!(" |"),
                }
            }
            println!();
        }
        println!();
    }
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
