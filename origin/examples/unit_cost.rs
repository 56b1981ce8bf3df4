//! Processor time of a unit over the shapes of requests: `unit_cost MODEL_FOLDER` carries each out as the service does
//! (pictures to start from decoded and scaled, steps, VAE, files encoded), on one thread, and prints one JSON object a
//! shape. The first is the usual one. `scripts/bench units` runs it.
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use origin::infer::{Engine, Format, ImageSpec, InitImage, Mask, Pixels, Settings, encode, price};
use origin::upload::{Stored, UploadError, UploadSettings, Uploads, Wanted};
use serde_json::json;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Ticks of 10 ms that each shape is measured for at least.
const TICKS: u64 = 100;

/// One kind of request.
struct Shape {
    name: String,
    side: usize,
    steps: usize,
    n: usize,
    guidance: f32,
    format: Format,
    /// The side of a picture to start from, and whether it has a mask.
    reference: Option<(usize, bool)>,
}

fn main() -> Result<(), Failure> {
    let folder = std::env::args()
        .nth(1)
        .ok_or("usage: unit_cost MODEL_FOLDER")?;
    let engine = Engine::load(&Settings {
        models: vec![PathBuf::from(folder)],
        threads: 1,
        ..Settings::default()
    })?;
    let uploads = Uploads::new(UploadSettings::default())?;
    let runtime = tokio::runtime::Runtime::new()?;
    let info = engine.model("")?;
    let usual = Shape {
        name: "usual".into(),
        side: info.width,
        steps: info.steps,
        n: 1,
        guidance: info.guidance_scale,
        format: Format::Png,
        reference: None,
    };
    let mut shapes = vec![usual];
    for side in [info.min_side, info.width, info.max_side] {
        for (steps, n) in [(1, 1), (1, 4), (4, 1), (20, 1)] {
            for guidance in [1.0, info.guidance_scale] {
                shapes.push(shape(side, steps, n, guidance, Format::Png, None));
            }
        }
        for format in [Format::Webp, Format::Jpeg] {
            shapes.push(shape(side, 1, 4, 1.0, format, None));
        }
        for reference in [(side, false), (1024, false), (4096, false), (4096, true)] {
            shapes.push(shape(side, 1, 1, 1.0, Format::Png, Some(reference)));
        }
    }
    let mut stored = Vec::new();
    for shape in &shapes {
        if let Some((side, _)) = shape.reference
            && !stored.iter().any(|(known, _)| *known == side)
        {
            stored.push((side, picture(side)?));
        }
    }
    for shape in &shapes {
        let file = |side| stored.iter().find(|(known, _)| *known == side);
        let file = shape.reference.and_then(|(side, _)| file(side));
        let file = file.map(|(_, file)| file.clone());
        let go = |seed| runtime.block_on(make(&engine, &uploads, shape, file.clone(), seed));
        let milliunits = go(0)?;
        let (mut times, begun) = (0, processor()?);
        while processor()? - begun < TICKS {
            times += 1;
            go(times)?;
        }
        let seconds = (processor()? - begun) as f64 / 100.0 / times as f64;
        let units = milliunits as f64 / 1000.0;
        println!(
            "{}",
            json!({ "shape": shape.name, "seconds": seconds, "units": units, "a_unit": seconds / units })
        );
    }
    Ok(())
}

fn shape(
    side: usize,
    steps: usize,
    n: usize,
    guidance: f32,
    format: Format,
    reference: Option<(usize, bool)>,
) -> Shape {
    let plural = if steps == 1 { "" } else { "s" };
    let mut name = format!("{side}², {steps} step{plural}, n = {n}");
    if guidance > 1.0 {
        name.push_str(", guidance");
    }
    if format != Format::Png {
        name.push_str(&format!(", {}", format.name()));
    }
    if let Some((side, has_mask)) = reference {
        name.push_str(&format!(", from {side}²"));
        if has_mask {
            name.push_str(" and a mask");
        }
    }
    Shape {
        name,
        side,
        steps,
        n,
        guidance,
        format,
        reference,
    }
}

/// A stored upload with something to decode in every row.
fn picture(side: usize) -> Result<Bytes, Failure> {
    let mut noise = 1u32;
    let rgb = (0..side * side * 3).map(|at| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (at / side / 16) as u8 ^ (noise >> 29) as u8
    });
    let pixels = Pixels {
        width: side,
        height: side,
        rgb: rgb.collect(),
        seed: 0,
    };
    Ok(encode(&pixels, Format::Png)?.into())
}

/// Carries one request out; its price.
async fn make(
    engine: &Engine,
    uploads: &Uploads,
    shape: &Shape,
    file: Option<Bytes>,
    seed: u64,
) -> Result<u64, Failure> {
    // A prompt that no other has: those that were encoded already cost nothing.
    let base = engine
        .model("")?
        .spec(&format!("a red apple {seed} {}", shape.name), seed);
    let mut spec = ImageSpec {
        width: shape.side,
        height: shape.side,
        steps: shape.steps,
        n: shape.n,
        guidance_scale: shape.guidance,
        ..base
    };
    let mut references = Vec::new();
    if let (Some(file), Some((side, has_mask))) = (file, shape.reference) {
        references.push((side * side) as u64);
        let length = u32::try_from(shape.side)?;
        let wanted = Wanted {
            width: length,
            height: length,
        };
        let whole = u32::try_from(side)?;
        let stored = Stored {
            width: whole,
            height: whole,
            bytes: file.len() as u64,
        };
        let read = async |file: Bytes| Ok::<_, UploadError>(file);
        let rgb = uploads.to_rgb(stored, read(file.clone()), wanted).await?;
        let mut mask = None;
        if has_mask {
            references.push((side * side) as u64);
            mask = Some(Arc::new(Mask {
                width: shape.side,
                height: shape.side,
                values: uploads.to_mask(stored, read(file), wanted).await?,
            }));
        }
        let pixels = Arc::new(Pixels {
            width: shape.side,
            height: shape.side,
            rgb,
            seed: 0,
        });
        spec.init = Some(InitImage {
            pixels,
            strength: 1.0,
            mask,
        });
    }
    for pixels in engine.generate(&spec, &mut |_| ControlFlow::Continue(()))? {
        encode(&pixels, shape.format)?;
    }
    Ok(price(&spec, &references))
}

/// Processor time of this process so far, in ticks of 10 ms.
fn processor() -> Result<u64, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let times = fields.split_whitespace().skip(11).take(2);
    Ok(times.flat_map(str::parse::<u64>).sum())
}
