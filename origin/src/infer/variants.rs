//! Which file of a part's folder holds its graph. Optimum writes `model.onnx`; people keep variants beside it or in its
//! place, as `model_fp16.onnx`.

use super::error::InferError;
use std::path::{Path, PathBuf};

/// Names that go before others, in this order.
const FIRST: [&str; 4] = [
    "model.onnx",
    "model_fp16.onnx",
    "model.fp16.onnx",
    "model_optimized.onnx",
];

/// The graph in a part's folder: `model.onnx`, else half precision, else the only one there is.
///
/// # Errors
/// `ModelBroken` naming `model.onnx` and, where there are several others, each of them.
pub fn graph_in(part: &Path) -> Result<PathBuf, InferError> {
    let found = graphs(part);
    let first = FIRST.iter().find(|name| found.iter().any(|f| f == *name));
    match (first, found.as_slice()) {
        (Some(name), _) => Ok(part.join(name)),
        (None, [only]) => Ok(part.join(only)),
        (None, []) => Err(InferError::broken(part.join("model.onnx"), "is missing")),
        (None, several) => {
            let several = several.join(", ");
            let reason =
                format!("is missing, and which of {several} is to take its place nothing says");
            Err(InferError::broken(part.join("model.onnx"), reason))
        }
    }
}

/// Whether a part's folder holds any graph.
pub fn has_graph(part: &Path) -> bool {
    !graphs(part).is_empty()
}

/// Whether a file beside a graph is another graph or another's weights, as `model_fp16.onnx_data` is.
pub fn is_anothers(file: &Path, graph: &Path) -> bool {
    let (Some(part), Some(name), Some(own)) = (
        graph.parent(),
        file.file_name().and_then(|name| name.to_str()),
        graph.file_name().and_then(|name| name.to_str()),
    ) else {
        return false;
    };
    let mut others = graphs(part).into_iter().filter(|other| other != own);
    file.parent() == Some(part) && others.any(|other| name.starts_with(&other))
}

/// Names of the graphs in a folder, sorted.
fn graphs(part: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(part).into_iter().flatten().flatten();
    // Follows links: a snapshot folder of links to blobs is a usual way to keep models.
    let files = entries.filter(|entry| entry.path().is_file());
    let names = files.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".onnx")).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        folder
    }

    #[test]
    fn the_plain_graph_goes_first_then_half_precision_then_the_only_one() {
        for (names, expected) in [
            (&["model.onnx", "model_fp16.onnx"] as &[&str], "model.onnx"),
            (&["model_fp16.onnx", "model_int8.onnx"], "model_fp16.onnx"),
            (
                &["model_quantized.onnx", "config.json"],
                "model_quantized.onnx",
            ),
            (
                &["decoder_model.onnx", "decoder_model.onnx_data"],
                "decoder_model.onnx",
            ),
        ] {
            let folder = part(names);
            let found = graph_in(folder.path()).unwrap();
            assert_eq!(found, folder.path().join(expected));
        }
    }

    #[test]
    fn what_is_missing_is_named_and_so_is_what_could_take_its_place() {
        let told = |names: &[&str]| graph_in(part(names).path()).unwrap_err().to_string();
        assert!(told(&["config.json"]).ends_with("/model.onnx: is missing"));
        let several = told(&["model_q4.onnx", "model_int8.onnx"]);
        assert!(
            several.contains("model_int8.onnx, model_q4.onnx"),
            "{several}"
        );
    }

    #[test]
    fn another_variants_weights_are_not_a_graphs_own() {
        let names = [
            "model.onnx",
            "model.onnx_data",
            "model_fp16.onnx",
            "model_fp16.onnx_data",
            "weights.pb",
        ];
        let folder = part(&names);
        let graph = folder.path().join("model.onnx");
        let own = names.map(|name| !is_anothers(&folder.path().join(name), &graph));
        assert_eq!(own, [true, true, false, false, true]);
        let graph = folder.path().join("model_fp16.onnx");
        let own = names.map(|name| !is_anothers(&folder.path().join(name), &graph));
        assert_eq!(own, [false, false, true, true, true]);
    }
}
