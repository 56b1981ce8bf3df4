//! Latents that stay where the denoiser runs, on the CPU: the same graphs, bindings and bookkeeping
//! as on a GPU.

use super::replay::Replay;
use crate::infer::engine::Engine;
use crate::infer::engine_tests::{
    check_company, check_demo_model, check_exports_of_optimum, check_folders, check_poison,
    check_tiny_models, copy_tree, finish, goldens, settings_at, spec,
};
use crate::infer::exports::{halved, with_rows};
use crate::infer::row::Row;
use crate::infer::settings::Latents;
use crate::infer::spec::ImageSpec;
use std::path::Path;
use std::sync::atomic::Ordering;

fn load(model: &Path) -> Engine {
    Engine::load(&settings_at(model, Latents::Device)).unwrap()
}

/// Two engines of one folder, the latents of the first on the host.
fn both(model: &Path) -> [Engine; 2] {
    [Latents::Host, Latents::Device].map(|at| Engine::load(&settings_at(model, at)).unwrap())
}

fn wish(prompt: &str, steps: usize, guidance: f32) -> ImageSpec {
    let mut spec = spec(prompt, 9);
    (spec.steps, spec.guidance_scale, spec.model) = (steps, guidance, String::new());
    spec
}

fn step(engine: &Engine, rows: &mut [&mut Row]) {
    for outcome in engine.step(rows, 16) {
        outcome.unwrap();
    }
}

#[test]
fn latents_after_each_step_and_the_picture_are_those_of_diffusers() {
    check_tiny_models(Latents::Device);
}

#[test]
fn folders_that_optimum_exported_make_the_pictures_of_diffusers() {
    check_exports_of_optimum(Latents::Device);
}

#[test]
fn what_a_folder_leaves_out_or_says_twice_is_read_as_diffusers_reads_it() {
    check_folders(Latents::Device);
}

#[test]
fn the_demo_model_makes_the_pictures_that_diffusers_makes_of_it() {
    check_demo_model(Latents::Device);
}

#[test]
fn a_picture_made_in_company_is_the_picture_made_alone() {
    check_company(Latents::Device);
}

#[test]
fn a_row_of_values_that_are_not_finite_fails_and_its_neighbours_finish() {
    check_poison(Latents::Device);
}

/// Rows meet that come from the host, from one call and from another, in any order, and some stay
/// behind: each goes on as if it were alone.
#[test]
fn rows_of_different_calls_come_together_and_part_again() {
    let engine = load(&goldens().join("model"));
    let wanted = wish("a red apple", 8, 4.0);
    let alone = finish(&engine, engine.rows(&wanted).unwrap());
    let mut rows: Vec<Row> = (0..5).flat_map(|_| engine.rows(&wanted).unwrap()).collect();
    let calls: [&[usize]; 9] = [
        &[0, 1],
        &[2, 3, 4],
        &[1],
        &[4, 0, 3],
        &[0, 1, 2, 3, 4],
        &[4, 3, 2, 1, 0],
        &[2],
        &[3, 1],
        &[1, 3],
    ];
    for call in calls {
        let mut chosen: Vec<(usize, &mut Row)> = rows.iter_mut().enumerate().collect();
        chosen.retain(|(i, _)| call.contains(i));
        chosen.sort_by_key(|(i, _)| call.iter().position(|c| c == i));
        let mut chosen: Vec<&mut Row> = chosen.into_iter().map(|(_, row)| row).collect();
        step(&engine, &mut chosen);
    }
    for picture in finish(&engine, rows) {
        assert_eq!(picture, alone[0]);
    }
}

/// What a picture looks like on its way is what the host shows of it, and asking changes nothing.
#[test]
fn previews_are_those_of_latents_on_the_host() {
    for scheduler in [
        "PNDMScheduler",
        "EulerAncestralDiscreteScheduler",
        "DPMSolverMultistepScheduler",
    ] {
        let pictures = [Latents::Host, Latents::Device].map(|at| {
            let mut settings = settings_at(&goldens().join("model"), at);
            settings.scheduler = scheduler.into();
            let engine = Engine::load(&settings).unwrap();
            let mut rows = engine.rows(&wish("the heart", 5, 3.0)).unwrap();
            rows.extend(engine.rows(&wish("a red apple", 5, 1.0)).unwrap());
            for _ in 0..2 {
                step(&engine, &mut rows.iter_mut().collect::<Vec<_>>());
            }
            rows[1].want_preview();
            step(&engine, &mut rows.iter_mut().collect::<Vec<_>>());
            assert!(engine.draft(&mut rows[0]).is_none());
            let draft = engine.draft(&mut rows[1]).unwrap();
            (engine.draw(&draft).unwrap(), finish(&engine, rows))
        });
        let [host, device] = &pictures;
        let apart = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(apart(&host.0.rgb, &device.0.rgb) <= Some(1), "{scheduler}");
        for (a, b) in host.1.iter().zip(&device.1) {
            assert!(apart(&a.rgb, &b.rgb) <= Some(1), "{scheduler}");
        }
    }
}

/// Half precision, whole-numbered timesteps, a fixed number of rows.
#[test]
fn exports_of_other_kinds_take_the_same_steps() {
    let folder = tempfile::tempdir().unwrap();
    for (name, change) in [
        ("half", &halved as &dyn Fn(&[u8]) -> Vec<u8>),
        ("fixed", &|graph: &[u8]| with_rows(graph, 3)),
    ] {
        for model in ["model", "model-xl", "model-lcm"] {
            let copy = folder.path().join(name).join(model);
            copy_tree(&goldens().join(model), &copy);
            let file = copy.join("unet/model.onnx");
            std::fs::write(&file, change(&std::fs::read(&file).unwrap())).unwrap();
            let [host, device] = both(&copy);
            let mut wanted = wish("a red apple", 4, 2.0);
            wanted.n = 2;
            let a = finish(&host, host.rows(&wanted).unwrap());
            let b = finish(&device, device.rows(&wanted).unwrap());
            for (a, b) in a.iter().zip(&b) {
                let apart = a.rgb.iter().zip(&b.rgb).map(|(a, b)| a.abs_diff(*b)).max();
                assert!(apart <= Some(1), "{name} {model}: {apart:?}");
            }
        }
    }
}

/// Latents come down when the last step is taken, and nothing of them stays on the device.
#[test]
fn what_is_on_the_device_goes_with_its_rows() {
    let engine = load(&goldens().join("model"));
    let mut rows = engine.rows(&wish("a red apple", 3, 4.0)).unwrap();
    rows.extend(engine.rows(&wish("the heart", 2, 4.0)).unwrap());
    step(&engine, &mut rows.iter_mut().collect::<Vec<_>>());
    let state = std::sync::Arc::downgrade(&rows[0].home.as_ref().unwrap().state);
    assert_eq!(state.strong_count(), 2);
    assert_eq!(rows[1].home.as_ref().unwrap().place, 1);
    step(&engine, &mut rows.iter_mut().collect::<Vec<_>>());
    assert_eq!(state.strong_count(), 0, "the state before is kept");
    assert!(rows[1].home.is_none() && rows[1].is_finished());
    assert!(rows[0].home.is_some());
    let state = std::sync::Arc::downgrade(&rows[0].home.as_ref().unwrap().state);
    drop(rows);
    assert_eq!(state.strong_count(), 0);
}

/// With a memory budget a call keeps nothing, and what it holds meanwhile is reckoned with it.
#[test]
fn with_a_memory_budget_tensors_go_with_their_call_and_are_counted() {
    let within = |latents| {
        let mut settings = settings_at(&goldens().join("model"), latents);
        settings.memory_mib = 512;
        Engine::load(&settings).unwrap()
    };
    let [host, device] = [Latents::Host, Latents::Device].map(within);
    let wanted = wish("a red apple", 3, 4.0);
    let free = load(&goldens().join("model"));
    let pictures = finish(&device, device.rows(&wanted).unwrap());
    assert_eq!(pictures, finish(&free, free.rows(&wanted).unwrap()));
    let [of_host, of_device] = [&host, &device].map(|engine| engine.shelf().find("").unwrap());
    assert!(of_device.calls().replays().is_empty());
    let pixels = (wanted.width * wanted.height) as u64;
    let row = device.rows(&wanted).unwrap().remove(0);
    let more = of_device.need(pixels, 1).call - of_host.need(pixels, 1).call;
    assert_eq!(
        more,
        2 * super::bytes(&row),
        "doubled, as all tensors are for the allocator"
    );
}

/// A call of one size is tried as a graph after three; where there is none to replay it is run
/// again, so that its numbers are the same and only the clock decides.
#[test]
fn a_size_that_comes_again_is_tried_as_a_graph_and_the_picture_stays_the_same() {
    let engine = load(&goldens().join("model"));
    let model = engine.shelf().find("").unwrap();
    let wanted = wish("a red apple", 8, 4.0);
    let plain = finish(&engine, engine.rows(&wanted).unwrap());
    let of_two = |model: &crate::infer::model::Model| {
        let known = model.calls().replays();
        known.into_iter().find(|(rows, _)| *rows == 2).unwrap().1
    };
    assert_eq!(of_two(&model), Replay::default(), "nothing is tried here");
    model.unet.may_capture.store(true, Ordering::Relaxed);
    assert_eq!(finish(&engine, engine.rows(&wanted).unwrap()), plain);
    let decided = of_two(&model);
    assert!(
        matches!(decided, Replay::Graph(1) | Replay::Plain),
        "{decided:?}"
    );
}

/// Clipping is no matter of coefficients: such a model's latents visit the host.
#[test]
fn a_scheduler_that_clips_keeps_its_latents_on_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("model");
    copy_tree(&goldens().join("model-xl"), &copy);
    let config = r#"{"_class_name": "DDIMScheduler", "clip_sample": true}"#;
    std::fs::write(copy.join("scheduler/scheduler_config.json"), config).unwrap();
    let engine = load(&copy);
    let mut row = engine.rows(&wish("a red apple", 3, 4.0)).unwrap().remove(0);
    step(&engine, &mut [&mut row]);
    assert!(row.home.is_none());
}
