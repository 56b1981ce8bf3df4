//! Model folders as people have them: links into a hub's cache, variants of graphs, schedulers named in two places; and
//! what a picture keeps of the one it starts from.

use super::Pixels;
use super::engine::Engine;
use super::engine_tests::{copy_tree, finish, goldens, settings, settings_at, spec};
use super::settings::{Latents, Settings};
use super::spec::{ImageSpec, InitImage, MAX_SEED, Mask};
use serde_json::json;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn load(model: &Path) -> Engine {
    Engine::load(&settings(model)).expect("run `scripts/test` once")
}

fn refusal(settings: &Settings) -> String {
    Engine::load(settings).err().unwrap().to_string()
}

/// A copy of a golden model, to be changed.
fn copy(model: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let model_folder = folder.path().join("copy");
    copy_tree(&goldens().join(model), &model_folder);
    (folder, model_folder)
}

/// The folder's files as blobs called by number, and links to them where the files were.
fn as_links(from: &Path, to: &Path, blobs: &Path, up: &str) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            as_links(&entry.path(), &target, blobs, &format!("../{up}"));
            continue;
        }
        let blob = std::fs::read_dir(blobs).unwrap().count().to_string();
        std::fs::copy(entry.path(), blobs.join(&blob)).unwrap();
        symlink(format!("{up}/blobs/{blob}"), target).unwrap();
    }
}

#[test]
fn a_snapshot_of_links_in_a_hub_cache_loads_and_is_called_by_its_repository() {
    let hub = tempfile::tempdir().unwrap();
    let repository = hub.path().join("models--acme--tiny-sd");
    std::fs::create_dir_all(repository.join("blobs")).unwrap();
    let snapshot = repository.join("snapshots/0123abcd");
    as_links(
        &goldens().join("model"),
        &snapshot,
        &repository.join("blobs"),
        "../..",
    );
    let expected = {
        let engine = load(&goldens().join("model"));
        finish(&engine, engine.rows(&spec("a red apple", 1)).unwrap())
    };
    for path in [hub.path(), &repository, &snapshot] {
        let engine = load(path);
        let model = engine.model("tiny-sd").unwrap();
        let mut wanted = model.spec("a red apple", 1);
        wanted.steps = 4;
        assert_eq!(finish(&engine, engine.rows(&wanted).unwrap()), expected);
    }
}

#[test]
fn variants_of_a_graphs_file_load_and_are_named_where_none_goes_first() {
    let (_folder, model) = copy("model");
    for part in ["unet", "text_encoder", "vae_decoder", "vae_encoder"] {
        let at = |file: &str| model.join(part).join(file);
        std::fs::rename(at("model.onnx"), at("model_fp16.onnx")).unwrap();
    }
    let engine = load(&model);
    assert!(engine.models()[0].takes_image);
    finish(
        &engine,
        engine.rows(&engine.models()[0].spec("x", 1)).unwrap(),
    );

    let at = |file: &str| model.join("unet").join(file);
    std::fs::copy(at("model_fp16.onnx"), at("model_int8.onnx")).unwrap();
    std::fs::rename(at("model_fp16.onnx"), at("model_q4.onnx")).unwrap();
    let told = refusal(&settings(&model));
    assert!(told.contains("unet/model.onnx"), "{told}");
    assert!(told.contains("model_int8.onnx, model_q4.onnx"), "{told}");

    // The encoder is optional, with its folder and without.
    std::fs::remove_file(at("model_q4.onnx")).unwrap();
    std::fs::remove_file(model.join("vae_encoder/model_fp16.onnx")).unwrap();
    assert!(!load(&model).models()[0].takes_image);
}

#[test]
fn whoever_names_an_unsupported_scheduler_is_named_and_the_configuration_rescues() {
    let (_folder, model) = copy("model");
    let write = |file: &str, value: serde_json::Value| {
        std::fs::write(model.join(file), value.to_string()).unwrap();
    };
    let names = |by: &str| {
        let told = refusal(&settings(&model));
        assert!(told.contains(by) && told.contains("UniPC"), "{told}");
    };
    let unipc = "UniPCMultistepScheduler";
    let index = |class: &str| json!({ "scheduler": ["diffusers", class] });
    write("model_index.json", index(unipc));
    names("/model_index.json");
    let file =
        json!({ "_class_name": unipc, "beta_schedule": "scaled_linear", "solver_type": "bh2" });
    write("scheduler/scheduler_config.json", file);
    names("/model_index.json");
    // An index that does not say.
    write("model_index.json", json!({ "scheduler": [null, null] }));
    names("/scheduler/scheduler_config.json");
    write("signet.json", json!({ "scheduler": "UniPC" }));
    names("/signet.json");
    let rescued = Settings {
        scheduler: "EulerDiscreteScheduler".to_owned(),
        ..settings(&model)
    };
    let scheduler = |settings: &Settings| Engine::load(settings).unwrap().models()[0].scheduler;
    assert_eq!(scheduler(&rescued), "EulerDiscreteScheduler");
    write("signet.json", json!({ "scheduler": "DDIMScheduler" }));
    write("model_index.json", index("PNDMScheduler"));
    assert_eq!(scheduler(&settings(&model)), "DDIMScheduler");
    assert_eq!(scheduler(&rescued), "EulerDiscreteScheduler");
    std::fs::remove_file(model.join("signet.json")).unwrap();
    assert_eq!(scheduler(&settings(&model)), "PNDMScheduler");
}

#[test]
fn sdxl_without_an_index_takes_an_empty_negative_prompt_for_zeros() {
    let picture = |index: Option<&str>| {
        let (_folder, model) = copy("model-xl");
        let file = model.join("model_index.json");
        match index {
            Some(index) => std::fs::write(file, index).unwrap(),
            None => std::fs::remove_file(file).unwrap(),
        }
        let engine = load(&model);
        let mut wanted = engine.models()[0].spec("a red apple", 1);
        wanted.steps = 2;
        finish(&engine, engine.rows(&wanted).unwrap())
    };
    let zeros = picture(Some(r#"{"force_zeros_for_empty_prompt": true}"#));
    assert_eq!(picture(None), zeros);
    assert_eq!(picture(Some("{}")), zeros);
    let encoded = picture(Some(r#"{"force_zeros_for_empty_prompt": false}"#));
    assert_ne!(encoded, zeros);
}

#[test]
fn every_seed_that_is_reported_can_be_asked_for_and_gives_its_picture() {
    let engine = load(&goldens().join("model"));
    let mut four = engine.models()[0].spec("a red apple", MAX_SEED);
    (four.n, four.steps) = (4, 2);
    let together = finish(&engine, engine.rows(&four).unwrap());
    let seeds: Vec<u64> = together.iter().map(|picture| picture.seed).collect();
    assert_eq!(seeds, [MAX_SEED, 0, 1, 2]);
    for picture in together {
        let alone = ImageSpec {
            seed: picture.seed,
            n: 1,
            ..four.clone()
        };
        assert_eq!(finish(&engine, engine.rows(&alone).unwrap()), [picture]);
    }
}

/// A picture with detail that no decoder gives back exactly, and a mask that paints a disc of it.
fn start(side: usize) -> (Pixels, Mask) {
    let rgb = (0..side * side).flat_map(|i| {
        let (x, y) = (i % side, i / side);
        [
            (x * 7 % 256) as u8,
            (y * 5 % 256) as u8,
            ((x ^ y) * 3 % 256) as u8,
        ]
    });
    let inside = |i: usize| {
        let (x, y) = ((i % side).abs_diff(side / 2), (i / side).abs_diff(side / 3));
        x * x + y * y < (side / 4) * (side / 4)
    };
    let values = (0..side * side).map(|i| if inside(i) { 255 } else { 0 });
    let mask = Mask {
        width: side,
        height: side,
        values: values.collect(),
    };
    let pixels = Pixels {
        width: side,
        height: side,
        rgb: rgb.collect(),
        seed: 0,
    };
    (pixels, mask)
}

#[test]
fn what_a_mask_keeps_of_a_picture_is_kept_pixel_by_pixel() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for at in [Latents::Host, Latents::Device] {
        for model in ["models/demo/emoji-128", "tests/goldens/engine/model"] {
            let engine = Engine::load(&settings_at(&root.join(model), at)).unwrap();
            let mut wanted = engine.models()[0].spec("a red apple", 5);
            wanted.steps = 4;
            let (original, mask) = start(wanted.width);
            for strength in [1.0, 0.6] {
                wanted.init = Some(InitImage {
                    pixels: Arc::new(original.clone()),
                    strength,
                    mask: Some(Arc::new(mask.clone())),
                });
                let made = finish(&engine, engine.rows(&wanted).unwrap()).remove(0);
                let (mut painted, mut changed) = (0, 0);
                let pixels = made.rgb.chunks(3).zip(original.rgb.chunks(3));
                for ((ours, theirs), mask) in pixels.zip(&mask.values) {
                    if *mask == 0 {
                        assert_eq!(ours, theirs, "{model} {strength}");
                    } else {
                        painted += 1;
                        changed += usize::from(ours != theirs);
                    }
                }
                assert!(
                    changed * 10 > painted * 8,
                    "{model}: {changed} of {painted}"
                );
            }
        }
    }
}

#[test]
fn a_preview_shows_what_the_mask_keeps() {
    for at in [Latents::Host, Latents::Device] {
        let engine = Engine::load(&settings_at(&goldens().join("model"), at)).unwrap();
        let mut wanted = engine.models()[0].spec("a red apple", 5);
        wanted.steps = 4;
        let (original, mask) = start(wanted.width);
        let clean = |strength, mask: Option<&Mask>| {
            let mut wanted = wanted.clone();
            wanted.init = Some(InitImage {
                pixels: Arc::new(original.clone()),
                strength,
                mask: mask.cloned().map(Arc::new),
            });
            let mut row = engine.rows(&wanted).unwrap().remove(0);
            row.want_preview();
            engine.step(&mut [&mut row], 8).remove(0).unwrap();
            engine.draft(&mut row).unwrap().clean
        };
        let all_kept = Mask {
            values: vec![0; mask.values.len()],
            ..mask.clone()
        };
        let (kept, some) = (clean(1.0, Some(&all_kept)), clean(1.0, Some(&mask)));
        let painted: Vec<f32> = mask.for_latents(8);
        for ((kept, some), painted) in kept.iter().zip(&some).zip(painted.iter().cycle()) {
            assert_eq!(kept == some, *painted == 0.0);
        }
        assert_ne!(clean(1.0, None), some);
    }
}

#[test]
fn of_each_prompt_that_is_read_in_part_the_part_is_told() {
    for model in ["model", "model-xl"] {
        let engine = load(&goldens().join(model));
        let told = |prompt: &str, negative: &str, guidance: f32| {
            let mut wanted = engine.models()[0].spec(prompt, 1);
            (wanted.negative_prompt, wanted.guidance_scale) = (negative.to_owned(), guidance);
            let cuts = engine.truncated(&wanted).into_iter();
            cuts.map(|cut| (cut.field, cut.tokens, cut.used_tokens, cut.used_characters))
                .collect::<Vec<_>>()
        };
        let long = "red ".repeat(100);
        let (prompt, negative) = (("prompt", 100, 75, 299), ("negative_prompt", 100, 75, 299));
        assert_eq!(told("red", "", 4.0), []);
        assert_eq!(told(&"red ".repeat(75), &"red ".repeat(75), 4.0), []);
        assert_eq!(told(&long, "", 4.0), [prompt]);
        assert_eq!(told(&long, &long, 4.0), [prompt, negative]);
        // Without guidance nobody reads it.
        assert_eq!(told("red", &long, 1.0), []);
    }
    // One of two encoders that reads less decides.
    let (_folder, model) = copy("model-xl");
    let file = model.join("tokenizer_2/tokenizer_config.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["pad_token"] = json!("r");
    std::fs::write(&file, config.to_string()).unwrap();
    let engine = load(&model);
    let mut wanted = engine.models()[0].spec(&"heart reR ".repeat(30), 1);
    wanted.model = String::new();
    let cut = engine.truncated(&wanted).remove(0);
    let one = load(&goldens().join("model-xl"))
        .truncated(&wanted)
        .remove(0);
    assert!(cut.used_characters < one.used_characters, "{cut:?} {one:?}");
}
