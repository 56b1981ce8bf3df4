//! `scheduler_config.json` as a typed configuration, with each class's own defaults.

use serde::Deserialize;
use serde_json::{Map, Value};

/// What DPM-Solver does unless its file says otherwise.
pub const DPM_ALGORITHM: &str = "dpmsolver++";
/// How its second order comes about unless its file says otherwise.
pub const DPM_SOLVER: &str = "midpoint";

/// The solvers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `DDIMScheduler` without added noise (eta 0).
    Ddim,
    /// `PNDMScheduler`, with or without Runge-Kutta warm-up.
    Pndm,
    /// `EulerDiscreteScheduler`.
    Euler,
    /// `EulerAncestralDiscreteScheduler`.
    EulerAncestral,
    /// `DPMSolverMultistepScheduler`: DPM-Solver++ (2M), its SDE form, Karras sigmas.
    DpmPlusPlus,
    /// `LCMScheduler`.
    Lcm,
}

impl Kind {
    /// Every solver with the class name diffusers gives it.
    pub const CLASSES: [(&'static str, Kind); 6] = [
        ("DDIMScheduler", Kind::Ddim),
        ("PNDMScheduler", Kind::Pndm),
        ("EulerDiscreteScheduler", Kind::Euler),
        ("EulerAncestralDiscreteScheduler", Kind::EulerAncestral),
        ("DPMSolverMultistepScheduler", Kind::DpmPlusPlus),
        ("LCMScheduler", Kind::Lcm),
    ];

    /// The solver of that class name.
    pub fn from_class(class: &str) -> Option<Self> {
        Self::CLASSES
            .iter()
            .find(|(name, _)| *name == class)
            .map(|(_, kind)| *kind)
    }
}

/// Why a scheduler file or a number of steps was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchedulerError {
    /// Not JSON, or a field of the wrong type.
    #[error("not a scheduler configuration: {0}")]
    Json(String),
    /// A class without an implementation here.
    #[error("scheduler {0:?} is not supported; supported are {supported}", supported = supported())]
    Class(String),
    /// An option that would change the picture.
    #[error("{option} = {value} is not supported by {class}")]
    Option {
        class: &'static str,
        option: &'static str,
        value: String,
    },
    /// A value that makes no schedule.
    #[error("{0} is not a usable value")]
    Value(&'static str),
    /// Steps outside what the schedule has.
    #[error("{steps} steps, but this scheduler takes 1 to {limit}")]
    Steps { steps: usize, limit: usize },
}

fn supported() -> String {
    Kind::CLASSES.map(|(name, _)| name).join(", ")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BetaSchedule {
    Linear,
    ScaledLinear,
    SquaredcosCapV2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Prediction {
    #[serde(rename = "epsilon")]
    Epsilon,
    #[serde(rename = "v_prediction")]
    Velocity,
    #[serde(rename = "sample", alias = "original_sample")]
    Sample,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spacing {
    Leading,
    Trailing,
    Linspace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalSigma {
    Zero,
    SigmaMin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigmaShape {
    Interpolated,
    Karras,
    Exponential,
}

/// All that any of the solvers reads, defaults filled in.
#[derive(Debug, Clone)]
pub struct SchedulerConfig {
    pub kind: Kind,
    pub num_train_timesteps: usize,
    pub beta_start: f64,
    pub beta_end: f64,
    pub beta_schedule: BetaSchedule,
    pub trained_betas: Option<Vec<f32>>,
    pub prediction: Prediction,
    pub spacing: Spacing,
    pub steps_offset: i64,
    pub set_alpha_to_one: bool,
    pub clip_sample: Option<f32>,
    pub rescale_betas_zero_snr: bool,
    pub sigma_shape: SigmaShape,
    pub sigma_min: Option<f64>,
    pub sigma_max: Option<f64>,
    pub final_sigma: FinalSigma,
    pub skip_prk_steps: bool,
    pub solver_order: usize,
    pub solver_heun: bool,
    pub stochastic: bool,
    pub lower_order_final: bool,
    pub euler_at_final: bool,
    pub lambda_min_clipped: f32,
    pub original_inference_steps: usize,
    pub timestep_scaling: f32,
}

/// Every field optional: the class decides the defaults. Unknown fields are other classes'.
#[derive(Deserialize)]
struct Raw {
    num_train_timesteps: Option<usize>,
    beta_start: Option<f64>,
    beta_end: Option<f64>,
    beta_schedule: Option<String>,
    trained_betas: Option<Vec<f32>>,
    prediction_type: Option<Prediction>,
    timestep_spacing: Option<Spacing>,
    steps_offset: Option<i64>,
    set_alpha_to_one: Option<bool>,
    clip_sample: Option<bool>,
    clip_sample_range: Option<f32>,
    thresholding: Option<bool>,
    rescale_betas_zero_snr: Option<bool>,
    interpolation_type: Option<String>,
    timestep_type: Option<String>,
    use_karras_sigmas: Option<bool>,
    use_exponential_sigmas: Option<bool>,
    use_beta_sigmas: Option<bool>,
    use_lu_lambdas: Option<bool>,
    use_flow_sigmas: Option<bool>,
    sigma_min: Option<f64>,
    sigma_max: Option<f64>,
    final_sigmas_type: Option<FinalSigma>,
    skip_prk_steps: Option<bool>,
    solver_order: Option<usize>,
    solver_type: Option<String>,
    algorithm_type: Option<String>,
    lower_order_final: Option<bool>,
    euler_at_final: Option<bool>,
    lambda_min_clipped: Option<f32>,
    original_inference_steps: Option<usize>,
    timestep_scaling: Option<f32>,
}

impl SchedulerConfig {
    /// The fields of a file as a class reads them.
    pub fn read(kind: Kind, fields: Map<String, Value>) -> Result<Self, SchedulerError> {
        let raw: Raw = serde_json::from_value(Value::Object(fields))
            .map_err(|error| SchedulerError::Json(error.to_string()))?;
        refuse_unsupported(kind, &raw)?;
        let class = class_name(kind);
        let lcm = kind == Kind::Lcm;
        let sigma_based = matches!(kind, Kind::Euler | Kind::EulerAncestral | Kind::DpmPlusPlus);
        let beta_schedule = match raw.beta_schedule.as_deref() {
            None if lcm => BetaSchedule::ScaledLinear,
            None | Some("linear") => BetaSchedule::Linear,
            Some("scaled_linear") => BetaSchedule::ScaledLinear,
            Some("squaredcos_cap_v2") => BetaSchedule::SquaredcosCapV2,
            Some(other) => return Err(unsupported(class, "beta_schedule", other)),
        };
        let karras = raw.use_karras_sigmas.unwrap_or(false) && kind != Kind::EulerAncestral;
        let exponential =
            raw.use_exponential_sigmas.unwrap_or(false) && kind != Kind::EulerAncestral;
        let config = Self {
            kind,
            num_train_timesteps: raw.num_train_timesteps.unwrap_or(1000),
            beta_start: raw.beta_start.unwrap_or(if lcm { 0.00085 } else { 0.0001 }),
            beta_end: raw.beta_end.unwrap_or(if lcm { 0.012 } else { 0.02 }),
            beta_schedule,
            trained_betas: raw.trained_betas,
            prediction: raw.prediction_type.unwrap_or(Prediction::Epsilon),
            spacing: raw.timestep_spacing.unwrap_or(if sigma_based {
                Spacing::Linspace
            } else {
                Spacing::Leading
            }),
            steps_offset: raw.steps_offset.unwrap_or(0),
            set_alpha_to_one: raw.set_alpha_to_one.unwrap_or(kind != Kind::Pndm),
            clip_sample: raw
                .clip_sample
                .unwrap_or(kind == Kind::Ddim)
                .then_some(raw.clip_sample_range.unwrap_or(1.0)),
            rescale_betas_zero_snr: raw.rescale_betas_zero_snr.unwrap_or(false)
                && kind != Kind::Pndm,
            sigma_shape: match (karras, exponential) {
                (true, _) => SigmaShape::Karras,
                (_, true) => SigmaShape::Exponential,
                _ => SigmaShape::Interpolated,
            },
            sigma_min: raw.sigma_min.filter(|_| kind == Kind::Euler),
            sigma_max: raw.sigma_max.filter(|_| kind == Kind::Euler),
            final_sigma: raw
                .final_sigmas_type
                .filter(|_| kind != Kind::EulerAncestral)
                .unwrap_or(FinalSigma::Zero),
            skip_prk_steps: raw.skip_prk_steps.unwrap_or(false),
            solver_order: raw.solver_order.unwrap_or(2),
            solver_heun: raw.solver_type.as_deref() == Some("heun"),
            stochastic: raw.algorithm_type.as_deref() == Some("sde-dpmsolver++"),
            lower_order_final: raw.lower_order_final.unwrap_or(true),
            euler_at_final: raw.euler_at_final.unwrap_or(false),
            lambda_min_clipped: raw.lambda_min_clipped.unwrap_or(f32::NEG_INFINITY),
            original_inference_steps: raw.original_inference_steps.unwrap_or(50),
            timestep_scaling: raw.timestep_scaling.unwrap_or(10.0),
        };
        if config.num_train_timesteps < 2 || config.num_train_timesteps > 100_000 {
            return Err(SchedulerError::Value("num_train_timesteps"));
        }
        Ok(config)
    }
}

fn class_name(kind: Kind) -> &'static str {
    Kind::CLASSES
        .iter()
        .find(|(_, k)| *k == kind)
        .map_or("scheduler", |(name, _)| name)
}

fn unsupported(class: &'static str, option: &'static str, value: &str) -> SchedulerError {
    SchedulerError::Option {
        class,
        option,
        value: value.to_owned(),
    }
}

fn refuse_unsupported(kind: Kind, raw: &Raw) -> Result<(), SchedulerError> {
    let class = class_name(kind);
    let on = |flag: Option<bool>| flag.unwrap_or(false);
    let euler = kind == Kind::Euler;
    let dpm = kind == Kind::DpmPlusPlus;
    let flags = [
        (
            "thresholding",
            matches!(kind, Kind::Ddim | Kind::DpmPlusPlus | Kind::Lcm) && on(raw.thresholding),
        ),
        ("use_beta_sigmas", (euler || dpm) && on(raw.use_beta_sigmas)),
        ("use_lu_lambdas", dpm && on(raw.use_lu_lambdas)),
        ("use_flow_sigmas", dpm && on(raw.use_flow_sigmas)),
    ];
    if let Some((option, _)) = flags.iter().find(|(_, set)| *set) {
        return Err(unsupported(class, option, "true"));
    }
    let words = [
        (
            "interpolation_type",
            euler,
            &raw.interpolation_type,
            &["linear"] as &[&str],
        ),
        ("timestep_type", euler, &raw.timestep_type, &["discrete"]),
        (
            "algorithm_type",
            dpm,
            &raw.algorithm_type,
            &[DPM_ALGORITHM, "sde-dpmsolver++"],
        ),
        ("solver_type", dpm, &raw.solver_type, &[DPM_SOLVER, "heun"]),
    ];
    for (option, applies, value, allowed) in words {
        if let Some(value) = value.as_deref().filter(|v| applies && !allowed.contains(v)) {
            return Err(unsupported(class, option, value));
        }
    }
    if let Some(order) = raw.solver_order.filter(|o| dpm && !(1..=2).contains(o)) {
        return Err(unsupported(class, "solver_order", &order.to_string()));
    }
    let sample = raw.prediction_type == Some(Prediction::Sample);
    if sample && matches!(kind, Kind::EulerAncestral | Kind::Pndm) {
        return Err(unsupported(class, "prediction_type", "sample"));
    }
    Ok(())
}
