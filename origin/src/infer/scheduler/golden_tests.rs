//! Every solver against diffusers, step by step, on one formula instead of a network
//! (`tests/goldens/schedulers/make.py` wrote the file).

use super::{Kind, Sampler, Scheduler, SchedulerError, SchedulerFile};
use crate::infer::noise::Noise;
use serde_json::{Value, json};
use std::sync::Arc;

const GOLDENS: &str = include_str!("../../../../tests/goldens/schedulers/goldens.json");

fn denoise(seen: &[f32], timestep: f32, out: &mut [f32]) {
    let wave = (f64::from(timestep) / 160.0).sin() as f32;
    for (out, x) in out.iter_mut().zip(seen) {
        *out = (x * 0.5).tanh() * 0.9 + wave * 0.1;
    }
}

fn numbers(value: &Value) -> Vec<f32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_f64().unwrap() as f32)
        .collect()
}

/// At zero signal-to-noise ratio latents start in the thousands and cancel: one unit in the
/// last place of the first noise is then all the precision there is (5e-4).
fn close(ours: f32, theirs: f32, init_noise_sigma: f32) -> bool {
    (ours - theirs).abs() <= 2e-5 + 2e-6 * theirs.abs() + 1.5e-7 * init_noise_sigma
}

fn check(case: &Value, seed: u64, count: usize, every: usize) {
    let name = case["name"].as_str().unwrap();
    let scheduler = Scheduler::parse(&case["config"].to_string()).unwrap();
    let plan = Arc::new(
        scheduler
            .plan(case["steps"].as_u64().unwrap() as usize)
            .unwrap(),
    );
    let start = case["start"].as_u64().unwrap() as usize;
    let mut sampler = Sampler::new(Arc::clone(&plan), start);
    let mut noise = Noise::new(seed);
    let mut latents = vec![0.0; count];
    noise.next_draw(count, |fresh| match start {
        0 => latents
            .iter_mut()
            .zip(fresh)
            .for_each(|(x, f)| *x = f * plan.init_noise_sigma),
        _ => {
            let clean: Vec<f32> = (0..count)
                .map(|i| -1.0 + 2.0 * i as f32 / (count - 1) as f32)
                .collect();
            sampler.add_noise(&clean, fresh, &mut latents);
        }
    });
    let (mut seen, mut output) = (vec![0.0; count], vec![0.0; count]);
    for (step, expected) in case["latents"].as_array().unwrap().iter().enumerate() {
        let timestep = sampler
            .timestep()
            .unwrap_or_else(|| panic!("{name}: too few steps"));
        let theirs = case["timesteps"][step].as_f64().unwrap() as f32;
        assert!(
            (timestep - theirs).abs() < 1e-3,
            "{name}: step {step}: {timestep} for {theirs}"
        );
        sampler.model_input(&latents, &mut seen);
        denoise(&seen, timestep, &mut output);
        sampler.step(&mut latents, &output, &mut noise).unwrap();
        for (ours, theirs) in latents.iter().step_by(every).zip(numbers(expected)) {
            assert!(
                close(*ours, theirs, plan.init_noise_sigma),
                "{name}: step {step}: {ours} for {theirs}"
            );
        }
    }
    assert_eq!(sampler.timestep(), None, "{name}: too many steps");
}

#[test]
fn every_scheduler_takes_the_steps_diffusers_takes() {
    let goldens: Value = serde_json::from_str(GOLDENS).unwrap();
    let number = |key: &str| goldens[key].as_u64().unwrap();
    let cases = goldens["cases"].as_array().unwrap();
    assert!(cases.len() >= 70);
    for case in cases {
        check(
            case,
            number("seed"),
            number("count") as usize,
            number("every") as usize,
        );
    }
}

/// Takes all steps of a case with the solver and, beside it, with its matrices.
fn check_matrices(case: &Value, count: usize) -> bool {
    let name = case["name"].as_str().unwrap();
    let scheduler = Scheduler::parse(&case["config"].to_string()).unwrap();
    if !scheduler.is_linear() {
        return false;
    }
    let steps = case["steps"].as_u64().unwrap() as usize;
    let plan = Arc::new(scheduler.plan(steps).unwrap());
    let start = case["start"].as_u64().unwrap() as usize;
    let mut sampler = Sampler::new(Arc::clone(&plan), start);
    let mut placed = sampler.clone();
    let (mut noise, mut again) = (Noise::new(5), Noise::new(5));
    let mut latents = vec![0.0; count];
    noise.next_draw(count, |fresh| latents.copy_from_slice(fresh));
    again.next_draw(count, |_| ());
    latents.iter_mut().for_each(|x| *x *= plan.init_noise_sigma);
    let mut planes = vec![latents.clone()];
    while let Some(timestep) = sampler.timestep() {
        let (mut seen, mut output) = (vec![0.0; count], vec![0.0; count]);
        sampler.model_input(&latents, &mut seen);
        for (seen, x) in seen.iter().zip(&planes[0]) {
            let ours = x * placed.input_scale();
            assert!(close(ours, *seen, plan.init_noise_sigma), "{name}: {ours}");
        }
        denoise(&seen, timestep, &mut output);
        let clean = sampler.clean(&latents, &output);
        let [of_latents, of_output] = placed.clean_weights();
        sampler.step(&mut latents, &output, &mut noise).unwrap();
        let matrix = placed.step_matrix().unwrap();
        let sum = |weights: &[f32], i: usize| {
            let held = planes.iter().chain([&output]);
            let terms = weights
                .iter()
                .zip(held)
                .map(|(weight, plane)| weight * plane[i]);
            terms.sum::<f32>()
        };
        let size = planes[0].iter().fold(0f32, |most, x| most.max(x.abs()));
        for (i, theirs) in clean.iter().enumerate().filter(|(_, x)| x.is_finite()) {
            let ours = planes[0][i] * of_latents + output[i] * of_output;
            let terms = (planes[0][i] * of_latents).abs() + (output[i] * of_output).abs();
            assert!(
                (ours - theirs).abs() <= 1e-6 * (1.0 + terms),
                "{name}: {ours} for {theirs}"
            );
        }
        let mut next: Vec<Vec<f32>> = matrix
            .planes
            .iter()
            .map(|weights| {
                assert_eq!(weights.len(), planes.len() + 1, "{name}");
                (0..count).map(|i| sum(weights, i)).collect()
            })
            .collect();
        if let Some(weights) = &matrix.noise {
            again.next_draw(count, |fresh| {
                for (plane, weight) in next.iter_mut().zip(weights) {
                    plane
                        .iter_mut()
                        .zip(fresh)
                        .for_each(|(x, fresh)| *x += weight * fresh);
                }
            });
        }
        planes = next;
        assert!(
            planes.len() <= scheduler.planes(),
            "{name}: {} planes",
            planes.len()
        );
        assert_eq!(placed.timestep(), sampler.timestep(), "{name}");
        for (ours, theirs) in planes[0].iter().zip(&latents) {
            // Both round: what comes out cannot be better than the largest number that went in.
            let allowed = 2e-5 + 4.0 * f32::EPSILON * size;
            assert!(
                (ours - theirs).abs() <= allowed,
                "{name}: {ours} for {theirs}"
            );
        }
        // One step at a time: what is rounded at the thousands stays seen later on.
        planes[0].clone_from(&latents);
    }
    true
}

#[test]
fn a_step_told_as_a_matrix_is_the_step_itself() {
    let goldens: Value = serde_json::from_str(GOLDENS).unwrap();
    let cases = goldens["cases"].as_array().unwrap();
    let linear = cases.iter().filter(|case| check_matrices(case, 64)).count();
    assert!(linear >= 60, "{linear} of {}", cases.len());
}

#[test]
fn a_file_as_python_writes_it_with_infinity_is_read() {
    let text = r#"{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity,
        "note": "an \"Infinity\" in a string stays", "x": NaN}"#;
    let scheduler = Scheduler::parse(text).unwrap();
    assert_eq!(scheduler.kind(), Kind::DpmPlusPlus);
    assert_eq!(scheduler.config.lambda_min_clipped, f32::NEG_INFINITY);
}

#[test]
fn options_that_would_change_the_picture_are_refused_by_name() {
    for (class, key, value) in [
        ("DDIMScheduler", "thresholding", json!(true)),
        ("EulerDiscreteScheduler", "use_beta_sigmas", json!(true)),
        (
            "EulerDiscreteScheduler",
            "timestep_type",
            json!("continuous"),
        ),
        ("DPMSolverMultistepScheduler", "solver_order", json!(3)),
        (
            "DPMSolverMultistepScheduler",
            "algorithm_type",
            json!("dpmsolver"),
        ),
        ("PNDMScheduler", "prediction_type", json!("sample")),
        ("DDIMScheduler", "beta_schedule", json!("laplace")),
    ] {
        let text = json!({"_class_name": class, key: value}).to_string();
        match Scheduler::parse(&text) {
            Err(SchedulerError::Option { option, .. }) => assert_eq!(option, key),
            other => panic!("{class} {key}: {other:?}"),
        }
    }
    let unknown = Scheduler::parse(r#"{"_class_name": "UniPCMultistepScheduler"}"#).unwrap_err();
    assert!(
        unknown.to_string().contains("UniPCMultistepScheduler"),
        "{unknown}"
    );
    assert!(Scheduler::parse("[]").is_err());
    assert!(Scheduler::parse(r#"{"_class_name": "DDIMScheduler", "beta_start": "x"}"#).is_err());
}

#[test]
fn another_solver_takes_its_own_defaults_where_the_file_had_none() {
    let file = SchedulerFile::parse(
        r#"{"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear",
            "timestep_spacing": "leading", "_use_default_values": ["timestep_spacing"]}"#,
    )
    .unwrap();
    let ddim = file.read_as(file.class()).unwrap();
    let euler = file.read_as("EulerDiscreteScheduler").unwrap();
    assert_eq!(euler.plan(2).unwrap().timesteps, [999.0, 0.0]);
    assert_eq!(ddim.plan(2).unwrap().timesteps, [500.0, 0.0]);
}

/// Files of all of diffusers' own classes whose schedule is one of these; a class that is supported reads them.
#[test]
fn a_supported_class_reads_the_file_of_one_that_is_not() {
    for text in [
        r#"{"_class_name": "UniPCMultistepScheduler", "solver_type": "bh2", "solver_order": 2, "predict_x0": true,
            "disable_corrector": [], "solver_p": null, "sigma_min": null}"#,
        r#"{"_class_name": "DEISMultistepScheduler", "algorithm_type": "deis", "solver_type": "logrho"}"#,
        r#"{"_class_name": "DDPMScheduler", "variance_type": "fixed_small", "clip_sample": true}"#,
        r#"{"_class_name": "HeunDiscreteScheduler", "use_karras_sigmas": true}"#,
        r#"{"beta_start": 0.001}"#,
    ] {
        let file = SchedulerFile::parse(text).unwrap();
        assert!(file.read_as(file.class()).is_err(), "{text}");
        for (class, kind) in Kind::CLASSES {
            assert_eq!(file.read_as(class).unwrap().kind(), kind, "{text}");
        }
    }
    let third = r#"{"_class_name": "UniPCMultistepScheduler", "solver_order": 3}"#;
    let third = SchedulerFile::parse(third).unwrap();
    let error = third.read_as("DPMSolverMultistepScheduler").unwrap_err();
    assert!(error.to_string().contains("solver_order = 3"), "{error}");
    assert!(third.read_as("EulerDiscreteScheduler").is_ok());
}

#[test]
fn a_number_of_steps_no_schedule_has_is_refused() {
    let ddim = Scheduler::parse(r#"{"_class_name": "DDIMScheduler"}"#).unwrap();
    assert!(ddim.plan(0).is_err());
    assert!(ddim.plan(1001).is_err());
    assert_eq!(ddim.plan(1000).unwrap().calls(), 1000);
    let lcm = Scheduler::parse(r#"{"_class_name": "LCMScheduler"}"#).unwrap();
    assert_eq!(
        lcm.plan(51).unwrap_err(),
        SchedulerError::Steps {
            steps: 51,
            limit: 50
        }
    );
}
