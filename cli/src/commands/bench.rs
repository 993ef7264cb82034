//! `ply bench`

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use clap::Args as ClapArgs;
use clap::Subcommand;
use layerfs::DiffId;
use layerfs::Stack;
use layerfs::Store;
use layerfs::TopDown;

use crate::command_error::CommandError;
use crate::context::Context;
use crate::output::out;
use crate::table;

/// Measure ply on what is here
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Lookup(LookupArgs),
}

/// Measure how long it takes to find a path of an image, by the number of its layers: with the stack index, and by
/// asking one layer after the other from the top down
#[derive(Debug, ClapArgs)]
struct LookupArgs {
    /// The image
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// How long each number of the table is measured.
const PATIENCE: Duration = Duration::from_millis(200);
/// How many paths are looked up.
const SAMPLE: usize = 4096;

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    match args.what {
        What::Lookup(args) => lookup(&args, context),
    }
}

fn lookup(args: &LookupArgs, context: &Context) -> Result<ExitCode, CommandError> {
    let engine = context.engine()?;
    let image = engine.image(&args.image).map_err(CommandError::failed)?;
    let count = image.layers.len();
    let mut depths: Vec<usize> = std::iter::successors(Some(1), |depth| Some(depth * 2))
        .take_while(|depth| *depth < count)
        .collect();
    depths.push(count);
    let mut text =
        "LAYERS\tENTRIES\tHIT: INDEX\tTOP-DOWN\tRATIO\tMISS: INDEX\tTOP-DOWN\tRATIO\n".to_owned();
    for depth in depths {
        text.push_str(&line(engine.store(), &image.layers[..depth])?);
    }
    out!("{}", table::align(&text));
    Ok(ExitCode::SUCCESS)
}

/// Measures a stack and returns its line of the table.
fn line(store: &Store, layers: &[DiffId]) -> Result<String, CommandError> {
    let was_here = store.stacks().map_err(CommandError::failed)?;
    let stack = store.stack(layers).map_err(CommandError::failed)?;
    let top_down = TopDown::open(store, layers).map_err(CommandError::failed)?;
    let mut text = format!("{}\t{}", layers.len(), stack.entry_count());
    let hits = paths(&stack);
    let misses: Vec<Vec<u8>> = hits
        .iter()
        .map(|path| [path, &b".not-there"[..]].concat())
        .collect();
    for sample in [&hits, &misses] {
        let index = time(sample, |path| stack.resolve(path).is_some());
        let walk = time(sample, |path| top_down.resolve(path).is_some());
        text.push_str(&format!(
            "\t{index:.0} ns\t{walk:.0} ns\t{:.1}",
            walk / index
        ));
    }
    let chain = stack.chain_id();
    drop(stack);
    if !was_here.contains(&chain) {
        store.remove_stack(&chain).map_err(CommandError::failed)?;
    }
    text.push('\n');
    Ok(text)
}

/// Returns paths of the stack, spread over all of it.
fn paths(stack: &Stack) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut directories = vec![(Stack::ROOT, Vec::new())];
    while let Some((directory, path)) = directories.pop() {
        for child in stack.children(directory) {
            let path = [&path[..], b"/", child.name].concat();
            if stack.meta(child.node).kind == layerfs::Kind::Directory {
                directories.push((child.node, path.clone()));
            }
            all.push(path);
        }
    }
    // A prime step visits every path once, and neighbours far apart.
    let step = 7919;
    let count = all.len().clamp(1, SAMPLE);
    let mut sample = Vec::with_capacity(count);
    for number in 0..count {
        if let Some(path) = all.get(number * step % all.len().max(1)) {
            sample.push(path.clone());
        }
    }
    sample
}

/// Returns the nanoseconds that one lookup takes.
fn time(paths: &[Vec<u8>], mut find: impl FnMut(&[u8]) -> bool) -> f64 {
    let start = Instant::now();
    let mut count = 0u32;
    while start.elapsed() < PATIENCE {
        for path in paths {
            black_box(find(black_box(path)));
        }
        count += paths.len() as u32;
        if paths.is_empty() {
            break;
        }
    }
    start.elapsed().as_nanos() as f64 / f64::from(count.max(1))
}
