//! Whether a model's graphs fit each other, and what they say the model can do.

use super::error::InferError;
use super::folder::Folder;
use super::graph::Graph;
use super::model::TextEncoder;
use super::scheduler::Kind;
use super::spec::{MAX_STEPS, ModelInfo};

/// SDXL reads the layer before the last of both encoders, all others the last.
pub fn hidden_output(graph: &Graph, second_to_last: bool) -> Result<String, InferError> {
    if !second_to_last {
        let named = graph
            .outputs
            .iter()
            .find(|port| port.name == "last_hidden_state");
        return named
            .map_or_else(|| graph.first_output(), Ok)
            .map(|port| port.name.clone());
    }
    let layers = graph.outputs.iter().filter_map(|port| {
        port.name
            .strip_prefix("hidden_states.")?
            .parse::<usize>()
            .ok()
    });
    match layers.max() {
        Some(last) if last > 0 => Ok(format!("hidden_states.{}", last - 1)),
        _ => Err(InferError::broken(
            &graph.file,
            "was exported without its hidden states",
        )),
    }
}

const UNET_INPUTS: [&str; 6] = [
    "sample",
    "timestep",
    "encoder_hidden_states",
    "text_embeds",
    "time_ids",
    "timestep_cond",
];

/// Checks that the graphs fit each other; gives the latents' channels.
pub fn check(
    folder: &Folder,
    encoders: &[TextEncoder],
    unet: &Graph,
    decoder: &Graph,
) -> Result<usize, InferError> {
    let broken = |reason: String| Err(InferError::broken(&unet.file, reason));
    let unknown = unet
        .inputs
        .iter()
        .find(|port| !UNET_INPUTS.contains(&port.name.as_str()));
    if let Some(port) = unknown {
        return broken(format!(
            "needs an input {:?}, which is not supported",
            port.name
        ));
    }
    let sample = unet.need_input("sample")?;
    if sample.shape.len() != 4 {
        return broken(format!(
            "takes a sample of {} dimensions, not 4",
            sample.shape.len()
        ));
    }
    let channels = sample.fixed(1).or(folder.unet.in_channels).unwrap_or(4);
    let latents = decoder.inputs.first().and_then(|port| port.fixed(1));
    if let Some(latents) = latents
        .or(folder.vae.latent_channels)
        .filter(|n| *n != channels)
    {
        return broken(format!(
            "takes {channels} channels where the decoder takes {latents}; inpainting models are \
             not supported"
        ));
    }
    if encoders.len() == 1 {
        let context = unet.need_input("encoder_hidden_states")?.fixed(2);
        let width = encoders
            .first()
            .and_then(|encoder| encoder.graph.outputs.first());
        let width = width.and_then(|port| port.fixed(2));
        if let (Some(context), Some(width)) = (context, width)
            && context != width
        {
            return broken(format!(
                "takes text of width {context}, the encoder gives {width}"
            ));
        }
    }
    for encoder in encoders {
        let ids = encoder.graph.need_input("input_ids")?;
        let length = encoder.tokenizer.length();
        if let Some(fixed) = ids.fixed(1).filter(|fixed| *fixed != length) {
            let reason = format!("takes {fixed} tokens, the tokenizer gives {length}");
            return Err(InferError::broken(&encoder.graph.file, reason));
        }
    }
    Ok(channels)
}

pub fn info(folder: &Folder, unet: &Graph, factor: usize, takes_image: bool) -> ModelInfo {
    let card = &folder.card;
    let sample = unet.input("sample");
    let fixed = |axis| {
        sample
            .and_then(|port| port.fixed(axis))
            .map(|side| side * factor)
    };
    let (high, wide) = folder.unet.sample_size.map_or((64, 64), |side| side.pair());
    let height = fixed(2).or(card.height).unwrap_or(high * factor);
    let width = fixed(3).or(card.width).unwrap_or(wide * factor);
    // Every level of the denoiser but the last halves the side, and all halves must come out even.
    let halvings = folder.unet.down_block_types.len().clamp(1, 6) - 1;
    let multiple = factor << if fixed(2).is_some() { 0 } else { halvings };
    let whole = |side: usize| side.next_multiple_of(multiple.max(1)).max(multiple);
    let is_fixed = fixed(2).is_some() || fixed(3).is_some();
    let (low, high) = match is_fixed {
        true => (height.min(width), height.max(width)),
        false => (
            whole(card.min_side.unwrap_or(height.min(width) / 2)),
            whole(card.max_side.unwrap_or(height.max(width) * 2)),
        ),
    };
    let kind = folder.scheduler.kind();
    let lcm = kind == Kind::Lcm;
    ModelInfo {
        name: folder.name.clone(),
        width,
        height,
        multiple,
        min_side: low,
        max_side: high,
        guidance_scale: card.guidance_scale.unwrap_or(7.5),
        steps: card.steps.unwrap_or(if lcm { 4 } else { 20 }),
        max_steps: MAX_STEPS.min(if lcm { 50 } else { MAX_STEPS }),
        takes_image,
        scheduler: Kind::CLASSES
            .iter()
            .find(|(_, k)| *k == kind)
            .map_or("", |(name, _)| name),
    }
}
