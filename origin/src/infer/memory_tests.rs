//! That the memory budget is kept, by what ONNX Runtime's own allocator counts.

use super::engine::Engine;
use super::engine_tests::{copy_tree, goldens, settings};
use super::model::Model;
use super::probe;
use super::row::Row;
use super::runtime::Runtime;
use super::settings::Settings;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/demo/emoji-128")
}

fn models() -> [PathBuf; 4] {
    [
        goldens().join("model"),
        goldens().join("model-xl"),
        goldens().join("model-lcm"),
        demo(),
    ]
}

fn frugal(path: &Path, mib: u64) -> (Settings, Runtime) {
    let settings = Settings {
        memory_mib: mib,
        ..settings(path)
    };
    let runtime = Runtime::load(&settings, 0).expect("run `scripts/test` once");
    (settings, runtime)
}

/// A model that keeps in its arenas what its calls took.
fn hoarding(path: &Path) -> Arc<Model> {
    let (settings, runtime) = frugal(path, 4096);
    let mut model = Model::load(&runtime, None, path, &settings).unwrap();
    model.unet.plain = None;
    model.vae.decoder.plain = None;
    Arc::new(model)
}

#[test]
fn no_call_takes_more_than_was_reckoned_from_what_was_measured() {
    for path in models() {
        let (settings, runtime) = frugal(&path, 4096);
        let measured = Arc::new(Model::load(&runtime, None, &path, &settings).unwrap());
        let known = probe::measure(&measured, u64::MAX, |_| unreachable!()).unwrap();
        for (part, n) in [(2, 1), (2, 4), (4, 1), (4, 3), (8, 1), (8, 2), (8, 4)] {
            // From half the usual side to twice it.
            let model = hoarding(&path);
            let info = &model.info;
            let mut spec = info.spec("x", 0);
            (spec.width, spec.height) = (info.width * part / 4, info.height * part / 4);
            (spec.n, spec.guidance_scale) = (n, 1.0);
            if info.validate(&spec).is_err() {
                continue;
            }
            let at_rest = model.unet.held().unwrap().taken;
            let ends_at_rest = model.vae.decoder.held().unwrap().taken;
            let mut rows = Row::of_spec(&model, &spec).unwrap();
            for _ in 0..2 {
                let mut rows: Vec<&mut Row> = rows.iter_mut().collect();
                super::batch::step(&mut rows).unwrap();
            }
            rows.iter().for_each(|row| drop(row.decode()));
            let pixels = (spec.width * spec.height) as u64;
            let taken = model.unet.held().unwrap().taken - at_rest;
            let most = known.denoise.most(pixels, n as u64);
            assert!(
                taken <= most,
                "{path:?}: {n} of {pixels} took {taken} where {most} were said"
            );
            let taken = model.vae.decoder.held().unwrap().taken - ends_at_rest;
            let most = known.decode.most(pixels, 1);
            assert!(
                taken <= most,
                "{path:?}: decoding {pixels} took {taken} of {most}"
            );
        }
    }
}

/// The smallest budget, in MiB, that the demo model and its usual picture fit into: as much as each
/// refusal says is needed.
fn just_enough() -> u64 {
    let mut mib = 1;
    while let Err(error) = Engine::load(&frugal(&demo(), mib).0) {
        let error = error.to_string();
        let (_, needed) = error.split_once(" takes ").unwrap();
        let needed = needed.split_once(" MiB").unwrap().0.parse().unwrap();
        assert!(needed > mib, "{error}");
        mib = needed;
    }
    mib
}

#[test]
fn rows_beyond_the_memory_budget_take_their_step_in_another_call() {
    let mib = just_enough();
    let free = Engine::load(&settings(&demo())).unwrap();
    let bounded = Engine::load(&frugal(&demo(), mib).0).unwrap();
    let mut spec = free.model("").unwrap().spec("a red apple", 1);
    (spec.steps, spec.n) = (2, 4);
    let make = |engine: &Engine| {
        let mut rows: Vec<Row> = (0..5)
            .flat_map(|i| {
                let spec = super::ImageSpec {
                    seed: 4 * i,
                    ..spec.clone()
                };
                engine.rows(&spec).unwrap()
            })
            .collect();
        for _ in 0..2 {
            let mut rows: Vec<&mut Row> = rows.iter_mut().collect();
            engine
                .step(&mut rows, 64)
                .into_iter()
                .for_each(|outcome| outcome.unwrap());
        }
        let model = Arc::clone(&rows[0].model);
        let pictures: Vec<_> = rows.iter().map(|row| engine.decode(row).unwrap()).collect();
        (pictures, model)
    };
    let ((one, _), (other, model)) = (make(&free), make(&bounded));
    assert_eq!(one, other);
    // Every call was counted by the allocator; forty rows at once need more than there is.
    let most = model
        .unet
        .peak()
        .unwrap()
        .max(model.vae.decoder.peak().unwrap());
    assert!(model.weights + most <= mib << 20, "{most}");
    let row = model.memory.get().unwrap().denoise.most(128 * 128, 1) - (2 << 20);
    assert!(model.weights + 40 * row / 2 > mib << 20);
    // What a call took is given back.
    let held = model.unet.held().unwrap();
    assert!(
        held.taken < held.peak.max(held.in_use + (1 << 20)),
        "{held:?}"
    );
}

#[test]
fn a_model_whose_usual_picture_does_not_fit_is_refused_by_name_while_others_serve() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        copy_tree(&demo(), &folder.path().join(name));
        let card = format!(r#"{{"name": "{name}", "guidance_scale": 1.5, "steps": 20}}"#);
        std::fs::write(folder.path().join(name).join("signet.json"), card).unwrap();
    }
    let mib = just_enough();
    let load = |mib| Engine::load(&frugal(folder.path(), mib).0);
    // The files fit, the picture does not.
    let error = load(mib - 2).err().unwrap().to_string();
    assert!(
        error.contains("infer.memory_mib") && error.contains("/a takes"),
        "{error}"
    );
    let engine = load(mib).unwrap();
    assert_eq!(engine.models().len(), 1);
    let (refused, error) = engine.refused().remove(0);
    assert_eq!(refused, folder.path().join("b"));
    assert_eq!(error.code(), "over_memory_budget");
    // The usual picture has room, a larger one has not.
    let mut spec = engine.model("").unwrap().spec("x", 1);
    assert_eq!(engine.shortage(&spec), 0);
    (spec.width, spec.height) = (256, 256);
    assert!(engine.shortage(&spec) > 0);
    // Once there is room the other comes, and both fit where both have room.
    std::fs::remove_dir_all(folder.path().join("a")).unwrap();
    assert_eq!(engine.reload().unwrap().loaded, ["b"]);
}
