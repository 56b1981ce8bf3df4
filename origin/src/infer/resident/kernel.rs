//! The small graphs that do on the device what the host does elsewhere between two calls of the
//! denoiser. Made here, node by node; every number depends on its own row alone.

use crate::infer::device;
use crate::infer::graph::frugal;
use crate::infer::runtime::Runtime;
use ort::editor::{Graph, Model, Node, ONNX_DOMAIN, Opset};
use ort::memory::Allocator;
use ort::operator::Attribute;
use ort::session::{IoBinding, RunOptions, Session};
use ort::value::{
    DynTensor, Outlet, Shape, SymbolicDimensions, Tensor, TensorElementType, ValueType,
};
use std::sync::{Mutex, PoisonError};

/// The operators used are of this version of ONNX or older.
const OPSET: u32 = 18;

/// Which graph. A state holds planes of rows: `[rows, planes, channels, height, width]`, single
/// precision, the latents first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Rows of one state: `state`, `rows` to `out`.
    Pick,
    /// Rows of two states in one: `a`, `rows_a`, `b`, `rows_b` to `out`.
    Join,
    /// The latents of rows, without what else is in their state: `state`, `rows` to `out`.
    Take,
    /// What the denoiser gets to see: `state`, `rows`, `scale` `[rows, 1, 1, 1]` to `out`.
    Show(TensorElementType),
    /// Numbers in single precision from the host, as the denoiser takes them: `x` to `out`.
    Carry {
        element: TensorElementType,
        rank: usize,
    },
    /// What the denoiser gave, `[rows, channels, height, width]`, in single precision: `x` to `out`.
    Widen(TensorElementType),
    /// A step, the denoiser's output in `element`; [`advance`] says how.
    Advance {
        planes: usize,
        element: TensorElementType,
    },
}

/// A graph ready to run on the device.
pub struct Kernel {
    session: Mutex<Session>,
    /// With a memory budget: a run gives back what it took.
    frugal: Option<RunOptions>,
}

impl Kernel {
    pub fn new(runtime: &Runtime, kind: Kind) -> ort::Result<Self> {
        let mut draft = Draft::new()?;
        match kind {
            Kind::Pick => draft.pick()?,
            Kind::Join => draft.join()?,
            Kind::Take => {
                draft.gives("out", SINGLE, 4);
                draft.take("out")?;
            }
            Kind::Show(element) => draft.show(element)?,
            Kind::Carry { element, rank } => draft.cast(SINGLE, element, rank)?,
            Kind::Widen(element) => draft.cast(element, SINGLE, 4)?,
            Kind::Advance { planes, element } => draft.advance(planes, element)?,
        }
        let _beside = device::share();
        let session = draft.finish(runtime)?;
        let frugal = runtime.ledger.budget.map(|_| frugal(runtime.gpu()));
        Ok(Self {
            session: Mutex::new(session),
            frugal: frugal.transpose()?,
        })
    }

    /// Runs it from `inputs`, wherever they lie, into `outputs`, which have the right shapes.
    pub fn run(
        &self,
        inputs: &[(&str, &DynTensor)],
        outputs: &mut [(&str, &mut DynTensor)],
    ) -> ort::Result<()> {
        let _beside = device::share();
        let mut session = self.lock();
        let mut binding: IoBinding = session.create_binding()?;
        for (name, value) in inputs {
            binding.bind_input(*name, *value)?;
        }
        for (name, value) in outputs {
            binding.bind_output(*name, &mut **value)?;
        }
        match &self.frugal {
            None => session.run_binding(&binding)?,
            Some(options) => session.run_binding_with_options(&binding, options)?,
        };
        Ok(())
    }

    /// Its session; nothing is left half done by a panic in a run.
    pub fn lock(&self) -> std::sync::MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A graph being put together.
struct Draft {
    graph: Graph,
    inputs: Vec<Outlet>,
    outputs: Vec<Outlet>,
    nodes: usize,
}

const SINGLE: TensorElementType = TensorElementType::Float32;
const WHOLE: TensorElementType = TensorElementType::Int64;

/// A tensor of any size.
fn port(name: &str, element: TensorElementType, rank: usize) -> Outlet {
    let shape = Shape::new(std::iter::repeat_n(-1, rank));
    let dimension_symbols = SymbolicDimensions::empty(rank);
    let kind = ValueType::Tensor {
        ty: element,
        shape,
        dimension_symbols,
    };
    Outlet::new(name, kind)
}

/// What a cast goes to, by the type's number in ONNX' own files.
fn to_type(element: TensorElementType) -> ort::Result<Attribute> {
    let number: i64 = match element {
        TensorElementType::Float32 => 1,
        TensorElementType::Int32 => 6,
        TensorElementType::Int64 => 7,
        TensorElementType::Float16 => 10,
        TensorElementType::Float64 => 11,
        other => return Err(ort::Error::new(format!("{other:?} is not supported"))),
    };
    Attribute::new("to", number)
}

fn on_axis(axis: i64) -> ort::Result<Attribute> {
    Attribute::new("axis", axis)
}

impl Draft {
    fn new() -> ort::Result<Self> {
        Ok(Self {
            graph: Graph::new()?,
            inputs: Vec::new(),
            outputs: Vec::new(),
            nodes: 0,
        })
    }

    fn takes(&mut self, name: &str, element: TensorElementType, rank: usize) {
        self.inputs.push(port(name, element, rank));
    }

    fn gives(&mut self, name: &str, element: TensorElementType, rank: usize) {
        self.outputs.push(port(name, element, rank));
    }

    fn node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: impl IntoIterator<Item = Attribute>,
    ) -> ort::Result<()> {
        self.nodes += 1;
        let name = format!("{operator}{}", self.nodes);
        let node = Node::new(operator, ONNX_DOMAIN, name, inputs, outputs, attributes)?;
        self.graph.add_node(node)
    }

    fn constant(&mut self, name: &str, shape: Shape, values: &[i64]) -> ort::Result<()> {
        let mut tensor = Tensor::<i64>::new(&Allocator::default(), shape)?;
        let (_, places) = tensor.extract_tensor_mut();
        places.iter_mut().zip(values).for_each(|(p, v)| *p = *v);
        self.graph.add_initializer(name, tensor, false)
    }

    fn finish(mut self, runtime: &Runtime) -> ort::Result<Session> {
        self.graph.set_inputs(self.inputs)?;
        self.graph.set_outputs(self.outputs)?;
        let mut model = Model::new([Opset::new(ONNX_DOMAIN, OPSET)?])?;
        model.set_graph(self.graph)?;
        let builder = runtime.plain_builder();
        let builder = builder.map_err(|error| ort::Error::new(error.to_string()))?;
        model.into_session(&builder)
    }

    fn pick(&mut self) -> ort::Result<()> {
        self.takes("state", SINGLE, 5);
        self.takes("rows", WHOLE, 1);
        self.gives("out", SINGLE, 5);
        self.node("Gather", &["state", "rows"], &["out"], [on_axis(0)?])
    }

    fn join(&mut self) -> ort::Result<()> {
        for (state, rows) in [("a", "rows_a"), ("b", "rows_b")] {
            self.takes(state, SINGLE, 5);
            self.takes(rows, WHOLE, 1);
        }
        self.gives("out", SINGLE, 5);
        self.node("Gather", &["a", "rows_a"], &["of_a"], [on_axis(0)?])?;
        self.node("Gather", &["b", "rows_b"], &["of_b"], [on_axis(0)?])?;
        self.node("Concat", &["of_a", "of_b"], &["out"], [on_axis(0)?])
    }

    fn take(&mut self, out: &str) -> ort::Result<()> {
        self.takes("state", SINGLE, 5);
        self.takes("rows", WHOLE, 1);
        self.constant("first", Shape::new([]), &[0])?;
        self.node("Gather", &["state", "rows"], &["whole"], [on_axis(0)?])?;
        self.node("Gather", &["whole", "first"], &[out], [on_axis(1)?])
    }

    fn show(&mut self, element: TensorElementType) -> ort::Result<()> {
        self.take("latents")?;
        self.takes("scale", SINGLE, 4);
        self.gives("out", element, 4);
        self.node("Mul", &["latents", "scale"], &["scaled"], [])?;
        self.node("Cast", &["scaled"], &["out"], [to_type(element)?])
    }

    fn cast(
        &mut self,
        from: TensorElementType,
        to: TensorElementType,
        rank: usize,
    ) -> ort::Result<()> {
        self.takes("x", from, rank);
        self.gives("out", to, rank);
        self.node("Cast", &["x"], &["out"], [to_type(to)?])
    }

    /// The denoiser's `output` (`[rows of the call, channels, height, width]`) is guided: of each
    /// row of the state, `without` and `with` `[rows, 1]` say where its two lie, `guidance` how far
    /// it goes from one to the other. Each plane after the step is the sum of the planes before it
    /// and the guided output, times `matrix` (`[rows, planes × (planes + 1), 1, 1, 1]`, all that
    /// counts for the first plane before it first), plus `noise` times `loud`, times `mask`, plus
    /// `known`; the last four may have 1 for any dimension. `out` is the state after it, and `sound`
    /// `[rows]` is 0 where all numbers of a row are finite, else not a number.
    fn advance(&mut self, planes: usize, element: TensorElementType) -> ort::Result<()> {
        self.takes("state", SINGLE, 5);
        self.takes("output", element, 4);
        self.takes("without", WHOLE, 2);
        self.takes("with", WHOLE, 2);
        for name in ["guidance", "matrix", "noise", "loud", "mask", "known"] {
            self.takes(name, SINGLE, 5);
        }
        self.gives("out", SINGLE, 5);
        self.gives("sound", SINGLE, 1);

        self.node("Cast", &["output"], &["wide"], [to_type(SINGLE)?])?;
        self.node("Gather", &["wide", "without"], &["plain"], [on_axis(0)?])?;
        self.node("Gather", &["wide", "with"], &["asked"], [on_axis(0)?])?;
        self.node("Sub", &["asked", "plain"], &["apart"], [])?;
        self.node("Mul", &["guidance", "apart"], &["far"], [])?;
        self.node("Add", &["plain", "far"], &["guess"], [])?;

        let named =
            |of: &str, count| -> Vec<String> { (0..count).map(|i| format!("{of}{i}")).collect() };
        let mut terms = match planes {
            1 => vec!["state".to_owned()],
            _ => named("plane", planes),
        };
        if planes > 1 {
            self.split("state", &terms)?;
        }
        terms.push("guess".to_owned());
        let weights = named("weight", planes + 1);
        self.split("matrix", &weights)?;
        let mut sum = String::new();
        for (i, (weight, term)) in weights.iter().zip(&terms).enumerate() {
            let product = format!("product{i}");
            self.node("Mul", &[weight, term], &[&product], [])?;
            sum = match i {
                0 => product,
                _ => {
                    let next = format!("sum{i}");
                    self.node("Add", &[&sum, &product], &[&next], [])?;
                    next
                }
            };
        }
        self.node("Mul", &["loud", "noise"], &["fresh"], [])?;
        self.node("Add", &[&sum, "fresh"], &["stepped"], [])?;
        self.node("Mul", &["mask", "stepped"], &["painted"], [])?;
        self.node("Add", &["painted", "known"], &["out"], [])?;

        self.node("Sub", &["out", "out"], &["nothing"], [])?;
        self.constant("all", Shape::new([4]), &[1, 2, 3, 4])?;
        let keep = Attribute::new("keepdims", 0i64)?;
        self.node("ReduceSum", &["nothing", "all"], &["sound"], [keep])
    }

    /// Cuts the second dimension into equal parts.
    fn split(&mut self, of: &str, parts: &[String]) -> ort::Result<()> {
        let names: Vec<&str> = parts.iter().map(String::as_str).collect();
        let count = Attribute::new("num_outputs", parts.len() as i64)?;
        self.node("Split", &[of], &names, [on_axis(1)?, count])
    }
}
