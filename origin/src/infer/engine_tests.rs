//! The engine against diffusers on tiny random pipelines (`tests/goldens/engine/make.py`
//! wrote models and goldens), and what must hold of any model: same seed, same picture, alone
//! or in company.

use super::engine::Engine;
use super::error::InferError;
use super::graph::read_json;
use super::row::Row;
use super::settings::{Device, Latents, Settings};
use super::spec::{ImageSpec, InitImage, Mask};
use super::tokenizer::PromptTokenizer;
use super::{Pixels, noise::Noise};
use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

pub(super) fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/engine")
}

pub(super) fn settings(models: &Path) -> Settings {
    Settings {
        models: vec![models.into()],
        device: Device::Cpu,
        ..Settings::default()
    }
}

pub(super) fn settings_at(models: &Path, latents: Latents) -> Settings {
    Settings {
        latents,
        ..settings(models)
    }
}

fn engine() -> &'static Engine {
    static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
        Engine::load(&settings(&goldens().join("model"))).expect("run `scripts/test` once")
    });
    &ENGINE
}

pub(super) fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_tree(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// RFC 7396: null takes a field out.
fn merge(value: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *value = patch.clone();
        return;
    };
    if !value.is_object() {
        *value = Value::Object(Default::default());
    }
    for (key, change) in patch {
        match change.is_null() {
            true => drop(value.as_object_mut().unwrap().remove(key)),
            false => merge(&mut value[key.as_str()], change),
        }
    }
}

/// A copy of a model under the case's scheduler configuration, and what else the case changes.
fn model_of(folder: &Path, model: &Path, case: &Value) -> PathBuf {
    let copy = folder.join("copy");
    copy_tree(model, &copy);
    let model = copy;
    let file = model.join("scheduler/scheduler_config.json");
    std::fs::write(file, case["scheduler"].to_string()).unwrap();
    let class = case["scheduler"]["_class_name"].clone();
    let of_class = json!({ "scheduler": ["diffusers", class] });
    for (file, patch) in [
        ("model_index.json", &of_class),
        ("model_index.json", &case["index"]),
        ("vae_decoder/config.json", &case["vae"]),
    ] {
        let file = model.join(file);
        let mut value: Value = read_json(&file).unwrap();
        if patch.is_object() {
            merge(&mut value, patch);
        }
        std::fs::write(file, value.to_string()).unwrap();
    }
    model
}

fn start_picture(side: usize) -> Pixels {
    let rgb = (0..side * side).flat_map(|i| [(i % side * 4) as u8, (i / side * 4) as u8, 77]);
    Pixels {
        width: side,
        height: side,
        rgb: rgb.collect(),
        seed: 0,
    }
}

/// The right half and a bit are painted anew.
fn mask(side: usize) -> Mask {
    let values = (0..side * side)
        .map(|i| if i % side >= side / 2 - 5 { 255 } else { 0 })
        .collect();
    Mask {
        width: side,
        height: side,
        values,
    }
}

fn spec_of(case: &Value, side: usize) -> ImageSpec {
    ImageSpec {
        model: String::new(),
        prompt: case["prompt"].as_str().unwrap().into(),
        negative_prompt: case["negative"].as_str().unwrap().into(),
        width: side,
        height: side,
        steps: case["steps"].as_u64().unwrap() as usize,
        guidance_scale: case["guidance"].as_f64().unwrap() as f32,
        seed: case["seed"].as_u64().unwrap(),
        n: 1,
        init: case["strength"].as_f64().map(|strength| InitImage {
            pixels: Arc::new(start_picture(side)),
            strength: strength as f32,
            mask: case["mask"].is_string().then(|| Arc::new(mask(side))),
        }),
    }
}

pub(super) fn finish(engine: &Engine, mut rows: Vec<Row>) -> Vec<Pixels> {
    while rows.iter().any(|row| !row.is_finished()) {
        let mut open: Vec<_> = rows.iter_mut().filter(|row| !row.is_finished()).collect();
        engine
            .step(&mut open, 8)
            .into_iter()
            .collect::<Result<(), _>>()
            .unwrap();
    }
    rows.iter().map(|row| engine.decode(row).unwrap()).collect()
}

/// Runs every case of a goldens folder on the model that `model_of_case` names.
fn check(
    folder: &Path,
    least: usize,
    latents_at: Latents,
    model_of_case: impl Fn(&Value) -> PathBuf,
) {
    let document: Value = read_json(&folder.join("goldens.json")).unwrap();
    let number = |key: &str| document[key].as_u64().unwrap() as usize;
    let (side, count) = (number("side"), number("count"));
    let bytes = std::fs::read(folder.join("latents.f32")).unwrap();
    let latents: Vec<f32> = bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect();
    let mut latents = latents.chunks_exact(count);
    let pictures = std::fs::read(folder.join("pictures.u8")).unwrap();
    let mut pictures = pictures.chunks_exact(side * side * 3);
    let cases = document["cases"].as_array().unwrap();
    assert!(cases.len() >= least);
    for case in cases {
        let model = model_of_case(case);
        let name = format!(
            "{} {} {} {} {:?}",
            case["scheduler"]["_class_name"],
            case["override"],
            case["index"],
            case["vae"],
            spec_of(case, side)
        );
        let folder = tempfile::tempdir().unwrap();
        let copy = model_of(folder.path(), &model, case);
        let settings = Settings {
            scheduler: case["override"].as_str().unwrap_or("").to_owned(),
            ..settings_at(&copy, latents_at)
        };
        let engine = Engine::load(&settings).unwrap();
        let mut row = engine.rows(&spec_of(case, side)).unwrap().pop().unwrap();
        assert_eq!(
            row.calls(),
            case["calls"].as_u64().unwrap() as usize,
            "{name}"
        );
        while !row.is_finished() {
            // Euler's first latents are as large as its sigma, thousands: one rounding of theirs is more than 1e-3.
            let largest = row
                .look()
                .unwrap()
                .iter()
                .fold(0f32, |most, x| most.max(x.abs()));
            let allowed = 1e-3 + f32::EPSILON * largest;
            engine.step(&mut [&mut row], 8).pop().unwrap().unwrap();
            let theirs = latents.next().unwrap();
            let differences = row
                .look()
                .unwrap()
                .iter()
                .zip(theirs)
                .map(|(a, b)| (a - b).abs());
            let worst = differences.fold(0.0, f32::max);
            assert!(
                worst <= allowed,
                "{model:?} {name}: step {}: off by {worst}",
                row.done()
            );
        }
        let ours = engine.decode(&row).unwrap();
        let theirs = pictures.next().unwrap();
        let worst = ours
            .rgb
            .iter()
            .zip(theirs)
            .map(|(a, b)| a.abs_diff(*b))
            .max()
            .unwrap();
        assert!(
            worst <= 2,
            "{model:?} {name}: the picture is off by {worst} grey levels"
        );
    }
}

pub(super) fn check_tiny_models(at: Latents) {
    check(&goldens(), 16, at, |case| {
        goldens().join(case["model"].as_str().unwrap())
    });
}

/// Every family as Optimum exports it, with every scheduler.
pub(super) fn check_exports_of_optimum(at: Latents) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/optimum");
    check(&folder, 40, at, |case| {
        folder.join(case["model"].as_str().unwrap())
    });
}

/// Folders whose small files leave something out, or say it in two places.
pub(super) fn check_folders(at: Latents) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/folders");
    check(&folder, 19, at, |case| {
        goldens().join(case["model"].as_str().unwrap())
    });
}

pub(super) fn check_demo_model(at: Latents) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let model = root.join("models/demo/emoji-128");
    check(&root.join("tests/goldens/demo"), 5, at, |_| model.clone());
}

#[test]
fn latents_after_each_step_and_the_picture_are_those_of_diffusers() {
    check_tiny_models(Latents::Host);
}

#[test]
fn folders_that_optimum_exported_run_unchanged_and_make_the_pictures_of_diffusers() {
    check_exports_of_optimum(Latents::Host);
}

#[test]
fn what_a_folder_leaves_out_or_says_twice_is_read_as_diffusers_reads_it() {
    check_folders(Latents::Host);
}

#[test]
fn the_demo_model_makes_the_pictures_that_diffusers_makes_of_it() {
    check_demo_model(Latents::Host);
}

#[test]
fn prompts_become_the_tokens_of_the_reference_tokenizer() {
    let tokenizer = PromptTokenizer::load(&goldens().join("model/tokenizer"), Some(77)).unwrap();
    let document: Value = read_json(&goldens().join("goldens.json")).unwrap();
    for case in document["cases"].as_array().unwrap() {
        let ids: Vec<i64> = case["ids"]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| id.as_i64().unwrap())
            .collect();
        let prompt = case["prompt"].as_str().unwrap();
        assert_eq!(tokenizer.encode(prompt).unwrap(), ids, "{prompt:?}");
    }
}

pub(super) fn spec(prompt: &str, seed: u64) -> ImageSpec {
    let mut spec = engine().model("").unwrap().spec(prompt, seed);
    spec.steps = 4;
    spec
}

#[test]
fn the_same_seed_gives_the_same_picture_and_the_nth_picture_is_that_of_its_own_seed() {
    let go = |spec: &ImageSpec| {
        engine()
            .generate(spec, &mut |_| ControlFlow::Continue(()))
            .unwrap()
    };
    let mut three = spec("a red apple", 11);
    three.n = 3;
    let together = go(&three);
    assert_eq!(together, go(&three));
    assert_ne!(together[0].rgb, together[1].rgb);
    assert_eq!(together[2], go(&spec("a red apple", 13))[0]);
    assert_ne!(together[0].rgb, go(&spec("the heart", 11))[0].rgb);
}

/// Rows of other prompts, guidance, step counts and start times share the calls; the picture
/// stays the same to the bit. Once with a timestep for every row, once with one for all, where
/// rows at different timesteps must be kept apart.
#[test]
fn a_picture_made_in_company_is_the_picture_made_alone() {
    check_company(Latents::Host);
}

pub(super) fn check_company(at: Latents) {
    for model in ["model", "model-xl"] {
        let engine = Engine::load(&settings_at(&goldens().join(model), at)).unwrap();
        let spec = |prompt, seed| ImageSpec {
            model: String::new(),
            ..spec(prompt, seed)
        };
        let mut others = [spec("the heart", 5), spec("12 apples", 6), spec("", 7)];
        others[0].steps = 9;
        others[1].guidance_scale = 1.0;
        others[2].n = 2;
        for guidance in [1.0, 4.0] {
            let mut wanted = spec("a red apple", 21);
            (wanted.steps, wanted.guidance_scale) = (6, guidance);
            let alone = finish(&engine, engine.rows(&wanted).unwrap());
            let mut company: Vec<Row> = others
                .iter()
                .flat_map(|spec| engine.rows(spec).unwrap())
                .collect();
            for row in &mut company[..2] {
                engine.step(&mut [row], 8).pop().unwrap().unwrap();
            }
            let mut rows = engine.rows(&wanted).unwrap();
            rows.extend(company);
            let together = finish(&engine, rows);
            assert_eq!(together[0], alone[0], "{model}, guidance {guidance}");
        }
    }
}

#[test]
fn a_gpu_demanded_of_a_library_without_one_is_a_clear_error() {
    let wanted = Settings {
        device: Device::Cuda,
        ..settings(&goldens().join("model"))
    };
    let error = Engine::load(&wanted).err().unwrap();
    assert_eq!(error.code(), "device_unavailable");
    assert!(error.to_string().contains("onnxruntime-gpu"), "{error}");
}

#[test]
fn a_row_of_values_that_are_not_finite_fails_and_its_neighbours_finish() {
    check_poison(Latents::Host);
}

pub(super) fn check_poison(at: Latents) {
    let engine = Engine::load(&settings_at(&goldens().join("model"), at)).unwrap();
    let good = spec("a red apple", 31);
    let alone = finish(&engine, engine.rows(&good).unwrap());
    let mut rows = engine.rows(&spec("the heart", 32)).unwrap();
    let poison = vec![f32::NAN; rows[0].latents().len()];
    rows[0].set_latents(&poison);
    rows.extend(engine.rows(&good).unwrap());
    let mut refs: Vec<&mut Row> = rows.iter_mut().collect();
    let outcomes = engine.step(&mut refs, 8);
    assert_eq!(outcomes[0].as_ref().unwrap_err().code(), "not_finite");
    assert!(outcomes[1].is_ok());
    assert_eq!(finish(&engine, rows.split_off(1)), alone);
}

#[test]
fn breaking_off_at_a_step_stops_there() {
    let mut seen = Vec::new();
    let outcome = engine().generate(&spec("a red apple", 1), &mut |event| {
        seen.push((event.step, event.steps));
        if event.step == 2 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    assert!(matches!(outcome, Err(InferError::Cancelled)));
    assert_eq!(seen, [(1, 4), (2, 4)]);
}

#[test]
fn requests_the_model_cannot_serve_are_refused_before_any_work() {
    let refused = |spec: &ImageSpec| engine().rows(spec).err().unwrap().code();
    let mut unknown = spec("x", 1);
    unknown.model = "another".into();
    assert_eq!(refused(&unknown), "unknown_model");
    let mut odd = spec("x", 1);
    odd.width = 72;
    assert_eq!(refused(&odd), "invalid_request");
}

#[test]
fn a_damaged_folder_is_named_and_the_others_serve() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good");
    copy_tree(&goldens().join("model"), &good);
    type Damage<'a> = &'a dyn Fn(&Path);
    let damages: [(&str, Damage<'_>); 5] = [
        ("unet/model.onnx", &|file| {
            std::fs::write(file, b"half a file").unwrap()
        }),
        ("vae_decoder/model.onnx", &|file| {
            std::fs::remove_file(file).unwrap()
        }),
        ("scheduler/scheduler_config.json", &|file| {
            std::fs::write(file, b"{").unwrap()
        }),
        ("tokenizer/vocab.json", &|file| {
            std::fs::remove_file(file).unwrap()
        }),
        ("text_encoder/model.onnx", &|file| {
            let bytes = std::fs::read(file).unwrap();
            std::fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
        }),
    ];
    for (i, (file, damage)) in damages.iter().enumerate() {
        let model = folder.path().join(format!("bad-{i}"));
        copy_tree(&goldens().join("model"), &model);
        damage(&model.join(file));
        let alone = Engine::load(&settings(&model)).err().unwrap();
        assert_eq!(alone.code(), "no_model");
        assert!(alone.to_string().contains(file), "{alone}");
    }
    let engine = Engine::load(&settings(folder.path())).unwrap();
    assert_eq!(engine.models().len(), 1);
    assert_eq!(engine.refused().len(), damages.len());
    assert_eq!(engine.models()[0].name, "good");
    finish(
        &engine,
        engine
            .rows(&engine.models()[0].spec("a red apple", 1))
            .unwrap(),
    );
}

#[test]
fn models_come_change_and_go_while_others_serve() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let copy = |name: &str| copy_tree(&goldens().join("model"), &at(name));
    let names = |names: &[&str]| -> Vec<String> { names.iter().map(|n| n.to_string()).collect() };
    copy("first");
    let engine = Engine::load(&settings(folder.path())).unwrap();
    copy("second");
    // A half-copied folder is named and refused, at a reload as at the start.
    copy("third");
    let file = at("third/unet/model.onnx");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let changes = engine.reload().unwrap();
    assert_eq!(changes.loaded, names(&["second"]));
    assert_eq!(changes.kept, names(&["first"]));
    assert_eq!(engine.refused()[0].0, at("third"));
    assert!(
        engine.refused()[0]
            .1
            .to_string()
            .contains("unet/model.onnx")
    );

    // Once it is whole it comes.
    std::fs::write(&file, &bytes).unwrap();
    let changes = engine.reload().unwrap();
    assert_eq!(changes.loaded, names(&["third"]));
    assert_eq!(changes.kept, names(&["first", "second"]));
    assert!(engine.refused().is_empty());

    // One that was damaged while it served goes on as it was, and is named.
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(engine.reload().unwrap().loaded, names(&[]));
    assert_eq!(engine.refused()[0].0, at("third"));
    let of_third = ImageSpec {
        model: "third".into(),
        ..spec("the heart", 2)
    };
    let rows = engine.rows(&of_third).unwrap();

    // Its folder goes: what is under way finishes, what is new is refused.
    std::fs::remove_dir_all(at("third")).unwrap();
    let changes = engine.reload().unwrap();
    assert_eq!(changes.unloaded, names(&["third"]));
    assert_eq!(engine.model("third").unwrap_err().code(), "unknown_model");
    let error = engine.rows(&of_third).err().unwrap();
    assert_eq!(error.code(), "unknown_model");
    finish(&engine, rows);

    // Taken out by hand, it comes back with the next reload; the last one stays.
    engine.unload("second").unwrap();
    assert_eq!(engine.unload("second").unwrap_err().code(), "unknown_model");
    assert_eq!(engine.unload("first").unwrap_err().code(), "last_model");
    assert_eq!(engine.reload().unwrap().loaded, names(&["second"]));
    std::fs::remove_dir_all(folder.path()).unwrap();
    assert_eq!(engine.reload().unwrap_err().code(), "no_model");
    assert_eq!(engine.models().len(), 2);
    let first = ImageSpec {
        model: "first".into(),
        ..spec("the heart", 2)
    };
    finish(&engine, engine.rows(&first).unwrap());
}

#[test]
fn an_unguided_row_skips_half_the_work() {
    let mut plain = spec("x", 1);
    plain.guidance_scale = 1.0;
    assert_eq!(engine().rows(&plain).unwrap()[0].slots(), 1);
    assert_eq!(engine().rows(&spec("x", 1)).unwrap()[0].slots(), 2);
}

#[test]
fn the_first_latents_are_the_documented_noise() {
    let row = engine().rows(&spec("x", 77)).unwrap().pop().unwrap();
    Noise::new(77).next_draw(row.latents().len(), |fresh| {
        assert_eq!(row.latents(), fresh)
    });
}
