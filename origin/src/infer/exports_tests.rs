//! Exports of other kinds than the goldens': what they take is read from their graphs.

use super::engine::Engine;
use super::engine_tests::{copy_tree, finish, goldens, settings};
use super::exports::{halved, with_rows};
use super::spec::ImageSpec;
use std::path::Path;

/// A copy of a model with some of its graphs changed.
fn changed(
    folder: &Path,
    model: &str,
    graphs: &[&str],
    change: impl Fn(&[u8]) -> Vec<u8>,
) -> Engine {
    let copy = folder.join(model);
    let _ = std::fs::remove_dir_all(&copy);
    copy_tree(&goldens().join(model), &copy);
    for graph in graphs {
        let file = copy.join(graph).join("model.onnx");
        std::fs::write(&file, change(&std::fs::read(&file).unwrap())).unwrap();
    }
    Engine::load(&settings(&copy)).unwrap()
}

fn wish(engine: &Engine, guidance: f32) -> ImageSpec {
    let mut spec = engine.models()[0].spec("a red apple", 9);
    (spec.steps, spec.n, spec.guidance_scale) = (5, 3, guidance);
    spec
}

#[test]
fn half_precision_and_whole_timesteps_are_read_from_the_graph() {
    let folder = tempfile::tempdir().unwrap();
    for model in ["model", "model-xl", "model-lcm"] {
        let free = Engine::load(&settings(&goldens().join(model))).unwrap();
        let half = changed(
            folder.path(),
            model,
            &["unet", "vae_decoder", "vae_encoder"],
            halved,
        );
        for guidance in [1.0, 5.0] {
            let spec = wish(&free, guidance);
            let wide = finish(&free, free.rows(&spec).unwrap());
            let narrow = finish(&half, half.rows(&spec).unwrap());
            let apart = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max();
            let worst = wide
                .iter()
                .zip(&narrow)
                .filter_map(|(a, b)| apart(&a.rgb, &b.rgb));
            let worst = worst.max().unwrap();
            // Half precision has a thousandth of a number.
            assert!(worst <= 3, "{model} at {guidance}: {worst} grey levels");
            let latents = |engine: &Engine| {
                let mut row = engine.rows(&spec).unwrap().remove(0);
                engine.step(&mut [&mut row], 8).remove(0).unwrap();
                row.latents().to_vec()
            };
            assert_ne!(
                latents(&free),
                latents(&half),
                "{model}: nothing is in half precision"
            );
        }
    }
}

#[test]
fn an_export_of_fixed_rows_is_filled_up_and_its_pictures_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for model in ["model", "model-xl"] {
        let free = Engine::load(&settings(&goldens().join(model))).unwrap();
        for rows in [3, 2] {
            let fixed = changed(folder.path(), model, &["unet"], |graph| {
                with_rows(graph, rows)
            });
            for guidance in [1.0, 5.0] {
                let spec = wish(&free, guidance);
                let pixels = (spec.width * spec.height) as u64;
                assert_eq!(fixed.call_pixels(&spec), rows * pixels);
                let same = finish(&free, free.rows(&spec).unwrap());
                assert_eq!(
                    finish(&fixed, fixed.rows(&spec).unwrap()),
                    same,
                    "{model}, {rows}"
                );
            }
        }
        let one = changed(folder.path(), model, &["unet"], |graph| with_rows(graph, 1));
        let error = one.rows(&wish(&free, 5.0)).err().unwrap();
        assert_eq!(error.code(), "invalid_request");
        let same = finish(&free, free.rows(&wish(&free, 1.0)).unwrap());
        assert_eq!(finish(&one, one.rows(&wish(&free, 1.0)).unwrap()), same);
    }
}
