//! Numbers on their way into a graph and out of it, in whatever types it takes and gives.

use half::f16;
use ort::session::SessionInputValue;
use ort::value::{DynValue, Tensor, TensorElementType, TensorRef};
use std::borrow::Cow;

/// Numbers for an input, converted to the element type the graph takes.
pub enum Feed<'a> {
    /// Real numbers.
    Floats(&'a [f32]),
    /// Token ids.
    Ids(&'a [i64]),
}

/// `None` when numbers of this kind cannot become elements of that type.
pub fn fed<'a>(
    element: TensorElementType,
    shape: &[i64],
    feed: &Feed<'a>,
) -> ort::Result<Option<SessionInputValue<'a>>> {
    let shape = shape.to_vec();
    Ok(Some(match (element, feed) {
        (TensorElementType::Float32, Feed::Floats(data)) => {
            TensorRef::from_array_view((shape, *data))?.into()
        }
        (TensorElementType::Float16, Feed::Floats(data)) => {
            let data: Vec<f16> = data.iter().map(|x| f16::from_f32(*x)).collect();
            Tensor::from_array((shape, data))?.into()
        }
        (TensorElementType::Float64, Feed::Floats(data)) => {
            let data: Vec<f64> = data.iter().map(|x| f64::from(*x)).collect();
            Tensor::from_array((shape, data))?.into()
        }
        // Whole-numbered timesteps: the fraction is dropped, as the reference's cast does.
        (TensorElementType::Int64, Feed::Floats(data)) => {
            let data: Vec<i64> = data.iter().map(|x| *x as i64).collect();
            Tensor::from_array((shape, data))?.into()
        }
        (TensorElementType::Int32, Feed::Floats(data)) => {
            let data: Vec<i32> = data.iter().map(|x| *x as i32).collect();
            Tensor::from_array((shape, data))?.into()
        }
        (TensorElementType::Int64, Feed::Ids(data)) => {
            TensorRef::from_array_view((shape, *data))?.into()
        }
        (TensorElementType::Int32, Feed::Ids(data)) => {
            let data: Vec<i32> = data
                .iter()
                .map(|x| i32::try_from(*x).unwrap_or(i32::MAX))
                .collect();
            Tensor::from_array((shape, data))?.into()
        }
        _ => return Ok(None),
    }))
}

/// What a graph gave: its shape, and its numbers in single precision.
pub fn widened(value: &DynValue) -> ort::Result<(Vec<i64>, Cow<'_, [f32]>)> {
    if let Ok((shape, data)) = value.try_extract_tensor::<f32>() {
        return Ok((shape.to_vec(), Cow::Borrowed(data)));
    }
    if let Ok((shape, data)) = value.try_extract_tensor::<f16>() {
        let wide = data.iter().map(|x| x.to_f32()).collect();
        return Ok((shape.to_vec(), Cow::Owned(wide)));
    }
    let (shape, data) = value.try_extract_tensor::<f64>()?;
    Ok((
        shape.to_vec(),
        Cow::Owned(data.iter().map(|x| *x as f32).collect()),
    ))
}
