//! One ONNX graph: what it takes and gives as the file says, and running it.

use super::arena::{self, Held};
use super::device;
use super::error::InferError;
use super::numbers::{Feed, fed, widened};
use super::runtime::Runtime;
use super::variants;
use ort::session::{IoBinding, RunOptions, Session};
use ort::value::{TensorElementType, ValueType};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A named input or output: element type and shape, dynamic dimensions as -1.
#[derive(Debug, Clone)]
pub struct Port {
    /// The graph's name for it.
    pub name: String,
    /// The element type.
    pub element: TensorElementType,
    /// Its dimensions.
    pub shape: Vec<i64>,
}

impl Port {
    /// A dimension that the export fixed.
    pub fn fixed(&self, axis: usize) -> Option<usize> {
        self.shape
            .get(axis)
            .and_then(|size| usize::try_from(*size).ok())
            .filter(|size| *size > 0)
    }
}

/// A loaded graph.
pub struct Graph {
    /// For errors and timings.
    pub stage: &'static str,
    /// The file it came from.
    pub file: PathBuf,
    /// Inputs in the graph's order.
    pub inputs: Vec<Port>,
    /// Outputs in the graph's order.
    pub outputs: Vec<Port>,
    session: Mutex<Session>,
    nanoseconds: AtomicU64,
    gpu: Option<u32>,
    /// For runs that are neither captured nor replayed.
    pub(super) plain: Option<RunOptions>,
    /// With a memory budget: a run gives back what it took.
    pub(super) is_frugal: bool,
    /// Bytes that its weights take.
    pub weights: u64,
    /// Bytes of them that its arena holds.
    at_rest: u64,
    /// Whether its runs may be captured as CUDA graphs.
    pub(super) may_capture: AtomicBool,
}

impl Graph {
    /// Loads `file`.
    pub fn load(runtime: &Runtime, stage: &'static str, file: PathBuf) -> Result<Self, InferError> {
        if !file.is_file() {
            return Err(InferError::broken(file, "is missing"));
        }
        let session = runtime.session(&file)?;
        Self::of_session(runtime, stage, file, session, false)
    }

    /// Loads `file` so that its runs can be captured as CUDA graphs, where it and the device allow.
    pub fn load_to_capture(
        runtime: &Runtime,
        stage: &'static str,
        file: PathBuf,
    ) -> Result<Self, InferError> {
        match runtime.session_to_capture(&file) {
            Some(session) => Self::of_session(runtime, stage, file, session, true),
            None => Self::load(runtime, stage, file),
        }
    }

    fn of_session(
        runtime: &Runtime,
        stage: &'static str,
        file: PathBuf,
        session: Session,
        captures: bool,
    ) -> Result<Self, InferError> {
        let gpu = runtime.gpu();
        let unusable = |error: ort::Error| InferError::broken(&file, error.message());
        let is_frugal = runtime.ledger.budget.is_some();
        let plain = match (is_frugal, captures) {
            (true, _) => Some(frugal(gpu)),
            (false, true) => Some(numbered(-1)),
            (false, false) => None,
        };
        let plain = plain.transpose().map_err(unusable)?;
        let (weights, at_rest) = match is_frugal {
            true => {
                let held = arena::held(&session, gpu).map_err(unusable)?;
                // Weights that were repacked for the processor are beside the arena.
                (held.taken.max(size_of_graph(&file)), held.in_use)
            }
            false => (0, 0),
        };
        let ports = |outlets: &[ort::value::Outlet]| {
            outlets
                .iter()
                .map(|outlet| match outlet.dtype() {
                    ValueType::Tensor { ty, shape, .. } => Ok(Port {
                        name: outlet.name().to_owned(),
                        element: *ty,
                        shape: shape.iter().copied().collect(),
                    }),
                    _ => Err(InferError::broken(
                        &file,
                        format!("{:?} is not a tensor", outlet.name()),
                    )),
                })
                .collect::<Result<Vec<_>, _>>()
        };
        let (inputs, outputs) = (ports(session.inputs())?, ports(session.outputs())?);
        Ok(Self {
            stage,
            file,
            inputs,
            outputs,
            session: Mutex::new(session),
            nanoseconds: AtomicU64::new(0),
            gpu,
            plain,
            is_frugal,
            weights,
            at_rest,
            may_capture: AtomicBool::new(captures),
        })
    }

    /// The input of that name, if the graph has it.
    pub fn input(&self, name: &str) -> Option<&Port> {
        self.inputs.iter().find(|port| port.name == name)
    }

    /// The input of that name.
    pub fn need_input(&self, name: &str) -> Result<&Port, InferError> {
        self.input(name).ok_or_else(|| {
            let names: Vec<_> = self.inputs.iter().map(|port| port.name.as_str()).collect();
            let names = names.join(", ");
            InferError::broken(&self.file, format!("has no input {name:?}, only {names}"))
        })
    }

    /// The first output, which every graph here has.
    pub fn first_output(&self) -> Result<&Port, InferError> {
        self.outputs
            .first()
            .ok_or_else(|| InferError::broken(&self.file, "has no output"))
    }

    /// Seconds spent inside ONNX Runtime by this graph so far.
    pub fn seconds(&self) -> f64 {
        self.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9
    }

    /// The most bytes that its runs so far needed beside the weights.
    pub fn peak(&self) -> Result<u64, InferError> {
        Ok(self.held()?.peak.saturating_sub(self.at_rest))
    }

    /// What its arena holds.
    pub fn held(&self) -> Result<Held, InferError> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        arena::held(&session, self.gpu).map_err(|error| InferError::run(self.stage, &error))
    }

    /// A binding for [`Graph::run_bound`], nothing bound yet.
    pub fn binding(&self) -> Result<IoBinding, InferError> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let binding = session.create_binding();
        binding.map_err(|error| InferError::run(self.stage, &error))
    }

    /// Runs the graph on tensors that are bound, replaying the CUDA graph of that number if there is
    /// one; tells how long it took.
    pub fn run_bound(
        &self,
        binding: &IoBinding,
        graph: Option<i32>,
    ) -> Result<Duration, InferError> {
        let _beside = device::share();
        self.run_as(binding, graph)
    }

    /// Captures the CUDA graph of that number, with nothing else going on.
    pub fn capture(&self, binding: &IoBinding, graph: i32) -> Result<(), InferError> {
        let _alone = device::keep_alone();
        self.run_as(binding, Some(graph)).map(drop)
    }

    fn run_as(&self, binding: &IoBinding, graph: Option<i32>) -> Result<Duration, InferError> {
        let failed = |error: ort::Error| InferError::run(self.stage, &error);
        let of_graph = graph.map(numbered).transpose().map_err(failed)?;
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let start = Instant::now();
        match of_graph.as_ref().or(self.plain.as_ref()) {
            None => session.run_binding(binding),
            Some(options) => session.run_binding_with_options(binding, options),
        }
        .map_err(failed)?;
        Ok(self.count(start))
    }

    /// Adds the time of a run.
    fn count(&self, start: Instant) -> Duration {
        let took = start.elapsed();
        let spent = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(spent, Ordering::Relaxed);
        took
    }

    /// Runs the graph and hands each wanted output, widened to single precision, to `take` with
    /// its position in `wanted` and its shape.
    pub fn run(
        &self,
        feeds: &[(&str, &[i64], Feed<'_>)],
        wanted: &[&str],
        mut take: impl FnMut(usize, &[i64], &[f32]) -> Result<(), InferError>,
    ) -> Result<(), InferError> {
        let failed = |error: ort::Error| InferError::run(self.stage, &error);
        let mut inputs = Vec::with_capacity(feeds.len());
        for (name, shape, feed) in feeds {
            let port = self.need_input(name)?;
            let value = fed(port.element, shape, feed)
                .map_err(failed)?
                .ok_or_else(|| {
                    InferError::broken(
                        &self.file,
                        format!(
                            "takes {:?} for {name:?}, which is not supported",
                            port.element
                        ),
                    )
                })?;
            inputs.push((Cow::Borrowed(*name), value));
        }
        let _beside = device::share();
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let start = Instant::now();
        let outputs = match &self.plain {
            None => session.run(inputs),
            Some(options) => session.run_with_options(inputs, options),
        };
        let outputs = outputs.map_err(failed)?;
        self.count(start);
        for (position, name) in wanted.iter().enumerate() {
            let value = outputs
                .get(name)
                .ok_or_else(|| InferError::broken(&self.file, format!("has no output {name:?}")))?;
            let (shape, numbers) = widened(value).map_err(failed)?;
            take(position, &shape, &numbers)?;
        }
        Ok(())
    }
}

/// A run that captures the CUDA graph of that number, or replays it; below zero it does neither.
fn numbered(graph: i32) -> ort::Result<RunOptions> {
    let mut options = RunOptions::new()?;
    options.set("gpu_graph_id", graph.to_string())?;
    Ok(options)
}

/// Has the arena give back what it has free when a run is over.
pub(super) fn frugal(gpu: Option<u32>) -> ort::Result<RunOptions> {
    let arena = gpu.map_or("cpu:0".to_owned(), |gpu| format!("gpu:{gpu}"));
    let mut options = RunOptions::new()?;
    options.set("memory.enable_memory_arena_shrinkage", arena)?;
    Ok(options)
}

/// Bytes of a graph's file and the files of weights beside it.
fn size_of_graph(file: &Path) -> u64 {
    let folder = file.parent().map(std::fs::read_dir);
    let files = folder.into_iter().flatten().flatten().flatten();
    let plain = |path: &Path| path.extension().is_some_and(|e| e == "json" || e == "txt");
    let counts = |path: &Path| !plain(path) && !variants::is_anothers(path, file);
    let sizes = files.filter(|entry| counts(&entry.path()));
    sizes
        .filter_map(|entry| std::fs::metadata(entry.path()).ok())
        .filter(std::fs::Metadata::is_file)
        .map(|about| about.len())
        .sum()
}

/// Reads a JSON file into `T`.
pub fn read_json<T: serde::de::DeserializeOwned>(file: &Path) -> Result<T, InferError> {
    let bytes = std::fs::read(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => InferError::broken(file, "is missing"),
        _ => InferError::broken(file, error),
    })?;
    serde_json::from_slice(&bytes).map_err(|error| InferError::broken(file, error))
}
