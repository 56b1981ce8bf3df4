//! What must not break an engine: pictures larger than memory, graphs that do not fit, prompts
//! without end; and pictures made in tiles.

use super::engine::Engine;
use super::engine_tests::{copy_tree, goldens, settings};
use super::settings::Settings;
use super::spec::{ImageSpec, InitImage};
use super::tokenizer::PromptTokenizer;
use super::{Format, Pixels, encode};
use crate::schedule::{self, JobSpec, Queue};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

fn demo(vae_tile: usize) -> Engine {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/demo/emoji-128");
    let settings = Settings {
        vae_tile,
        ..settings(&model)
    };
    Engine::load(&settings).expect("run `scripts/test` once")
}

fn make(engine: &Engine, spec: &ImageSpec) -> Pixels {
    let pictures = engine.generate(spec, &mut |_| ControlFlow::Continue(()));
    pictures.unwrap().pop().unwrap()
}

/// Mean and largest difference in grey levels.
fn difference(a: &Pixels, b: &Pixels) -> (f64, u8) {
    assert_eq!((a.width, a.height), (b.width, b.height));
    let all: Vec<u8> = a
        .rgb
        .iter()
        .zip(&b.rgb)
        .map(|(a, b)| a.abs_diff(*b))
        .collect();
    let sum: f64 = all.iter().map(|x| f64::from(*x)).sum();
    (sum / all.len() as f64, all.into_iter().max().unwrap())
}

#[test]
fn a_picture_made_in_tiles_is_close_to_the_one_made_whole() {
    let (whole, tiled) = (demo(0), demo(128));
    let mut spec = whole.model("").unwrap().spec("a red apple", 3);
    (spec.width, spec.height, spec.steps) = (256, 192, 6);
    let (mean, most) = difference(&make(&whole, &spec), &make(&tiled, &spec));
    assert!(mean > 0.0, "the picture was not made in tiles");
    assert!(
        mean < 8.0 && most < 100,
        "off by {mean} on average, {most} at most"
    );
    // Begun from a picture, which is read in tiles too.
    let start = make(&whole, &spec);
    spec.init = Some(InitImage {
        pixels: Arc::new(start),
        strength: 0.2,
        mask: None,
    });
    let (mean, _) = difference(&make(&whole, &spec), &make(&tiled, &spec));
    assert!(mean > 0.0 && mean < 12.0, "off by {mean} on average");
    // A picture of a tile's size is made whole.
    spec.init = None;
    (spec.width, spec.height) = (128, 128);
    assert_eq!(make(&whole, &spec), make(&tiled, &spec));
}

/// A copy of the tiny model that takes sides as large as one likes.
fn boundless(folder: &Path) -> Engine {
    let model = folder.join("boundless");
    copy_tree(&goldens().join("model"), &model);
    std::fs::write(model.join("signet.json"), r#"{"max_side": 16384}"#).unwrap();
    Engine::load(&settings(&model)).unwrap()
}

#[tokio::test]
async fn a_picture_larger_than_memory_fails_alone_and_the_engine_lives() {
    // Attention over this picture asks for some hundred gigabytes at once. Systems that promise
    // more memory than they have would grant it: so this process may not have it.
    let limit = Rlimit {
        current: Some(64 << 30),
        maximum: None,
    };
    setrlimit(Resource::As, limit).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let engine = Arc::new(boundless(folder.path()));
    let settings = schedule::Settings {
        batch_pixels: 1 << 30,
        ..schedule::Settings::default()
    };
    let queue = Queue::start(Arc::clone(&engine), settings, Box::new(|_| {})).unwrap();
    let info = engine.model("").unwrap();
    let mut good = info.spec("a red apple", 1);
    good.steps = 6;
    let alone = make(&engine, &good);
    let mut huge = info.spec("the heart", 2);
    (huge.width, huge.height, huge.steps, huge.guidance_scale) = (4608, 4608, 2, 1.0);
    let submit = |image: &ImageSpec, user: &str| {
        let job = JobSpec {
            image: image.clone(),
            deadline: None,
        };
        queue.submit(job, user, 1).unwrap()
    };
    let (before, bad, beside) = (submit(&good, "a"), submit(&huge, "b"), submit(&good, "c"));
    assert_eq!(bad.outcome().await.unwrap_err().code(), "out_of_memory");
    for job in [before, beside, submit(&good, "b")] {
        let images = job.outcome().await.unwrap().images;
        assert_eq!(images, std::slice::from_ref(&alone));
    }
}

#[test]
fn graphs_that_do_not_fit_each_other_are_refused_and_named() {
    let folder = tempfile::tempdir().unwrap();
    copy_tree(&goldens().join("model"), &folder.path().join("good"));
    for (part, of) in [
        // A denoiser that wants what no text encoder here gives, and one that is no denoiser.
        ("unet", "model-xl/unet"),
        ("unet", "model/vae_decoder"),
        ("vae_decoder", "model/vae_encoder"),
        ("text_encoder", "model/unet"),
    ] {
        let model = folder.path().join("bad");
        let _ = std::fs::remove_dir_all(&model);
        copy_tree(&goldens().join("model"), &model);
        std::fs::copy(
            goldens().join(of).join("model.onnx"),
            model.join(part).join("model.onnx"),
        )
        .unwrap();
        let engine = Engine::load(&settings(folder.path())).unwrap();
        assert_eq!(engine.models().len(), 1, "{part} of {of}");
        let (refused, error) = engine.refused().remove(0);
        assert_eq!(refused, model);
        assert_eq!(error.code(), "model_broken", "{part} of {of}: {error}");
    }
}

#[test]
fn a_prompt_over_seventy_seven_tokens_is_cut_after_its_seventy_fifth() {
    let tokenizer = PromptTokenizer::load(&goldens().join("model/tokenizer"), Some(77)).unwrap();
    let one = tokenizer.encode("a").unwrap();
    let (start, token, end) = (one[0], one[1], one[2]);
    let many = |count: usize| vec!["a"; count].join(" ");
    let fits = tokenizer.encode(&many(75)).unwrap();
    assert_eq!(fits.len(), 77);
    assert_eq!((fits[0], fits[76]), (start, end));
    assert!(fits[1..76].iter().all(|id| *id == token));
    for longer in [76, 77, 500] {
        assert_eq!(tokenizer.encode(&many(longer)).unwrap(), fits);
    }
    assert_ne!(tokenizer.encode(&many(74)).unwrap(), fits);
    assert_eq!(tokenizer.cut(&many(75)).unwrap(), None);
    let cut = tokenizer.cut(&format!("  É {} heart", many(80))).unwrap();
    let cut = cut.unwrap();
    // Accents are characters, of two tokens here; white space that is left out counts where it was.
    assert_eq!(
        (cut.tokens, cut.used_tokens, cut.used_characters),
        (83, 75, 149)
    );
    // What is cut off does not show.
    let engine = Engine::load(&settings(&goldens().join("model"))).unwrap();
    let mut spec = engine.model("").unwrap().spec(&many(75), 1);
    spec.steps = 2;
    let cut = ImageSpec {
        prompt: format!("{} heart", many(75)),
        ..spec.clone()
    };
    let other = ImageSpec {
        prompt: format!("heart {}", many(75)),
        ..spec.clone()
    };
    let png = |spec| encode(&make(&engine, spec), Format::Png).unwrap();
    assert_eq!(png(&spec), png(&cut));
    assert_ne!(png(&spec), png(&other));
}
