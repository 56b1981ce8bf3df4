//! What a picture costs. The formula counts the denoiser's work; the floor, what each picture and each picture to start
//! from takes besides, whatever its steps. `scripts/bench units` measures that no shape takes over three times the
//! processor time of a unit of the usual one.

use super::spec::ImageSpec;

/// Pixels of a unit's picture.
const UNIT: u64 = 512 * 512;
/// Thousandths of a unit for each picture: its prompt, its first noise, its rows in the ledger, and what a call of the
/// denoiser takes for a picture however small.
const PICTURE: u64 = 350;
/// The same for each 512 × 512 pixels of it: drawn by the VAE, encoded, marked, stored.
const PICTURE_AREA: u64 = 1_400;
/// Thousandths of a unit for each picture to start from and each mask: found, fetched.
const REFERENCE: u64 = 40;
/// The same for each 512 × 512 pixels of it as it is stored: decoded and scaled.
const REFERENCE_AREA: u64 = 75;
/// The same for each 512 × 512 pixels of the job where there is a picture to start from: read by the VAE.
const READ_AREA: u64 = 800;

/// Thousandths of a unit, rounded up: `n × steps run × (width × height / 512²)`, twice that with guidance, and never less
/// than the [`floor`].
pub fn price(spec: &ImageSpec, references: &[u64]) -> u64 {
    spec.cost_milliunits().max(floor(spec, references))
}

/// Thousandths of a unit that a request costs at least; `references` are the pixels of each picture to start from and of
/// its mask, as they are stored.
pub fn floor(spec: &ImageSpec, references: &[u64]) -> u64 {
    let area = (spec.width as u64).saturating_mul(spec.height as u64);
    let each = PICTURE.saturating_add(of_area(PICTURE_AREA, area));
    let pictures = each.saturating_mul(spec.n as u64);
    pictures.saturating_add(reading(spec, references))
}

/// The part of the [`floor`] that is due once the pictures to start from are read.
pub fn reading(spec: &ImageSpec, references: &[u64]) -> u64 {
    if references.is_empty() {
        return 0;
    }
    let area = (spec.width as u64).saturating_mul(spec.height as u64);
    let each = |pixels: &u64| REFERENCE.saturating_add(of_area(REFERENCE_AREA, *pixels));
    let all = references.iter().map(each).fold(0u64, u64::saturating_add);
    all.saturating_add(of_area(READ_AREA, area))
}

fn of_area(milliunits: u64, pixels: u64) -> u64 {
    milliunits.saturating_mul(pixels).div_ceil(UNIT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spec(side: usize, steps: usize, n: usize) -> ImageSpec {
        ImageSpec {
            model: String::new(),
            prompt: String::new(),
            negative_prompt: String::new(),
            width: side,
            height: side,
            steps,
            guidance_scale: 1.0,
            seed: 0,
            n,
            init: None,
        }
    }

    #[test]
    fn few_steps_cost_what_their_pictures_cost_and_many_what_the_formula_says() {
        assert_eq!(price(&spec(512, 20, 1), &[]), 20_000);
        assert_eq!(price(&spec(512, 1, 1), &[]), PICTURE + PICTURE_AREA);
        let each = PICTURE + PICTURE_AREA.div_ceil(64);
        assert_eq!(price(&spec(64, 1, 4), &[]), 4 * each);
    }

    #[test]
    fn a_large_picture_and_its_mask_cost_what_reading_them_costs() {
        let plain = price(&spec(64, 1, 1), &[]);
        let side = 4096 * 4096;
        let read = 2 * (REFERENCE + 64 * REFERENCE_AREA) + READ_AREA.div_ceil(64);
        assert_eq!(price(&spec(64, 1, 1), &[side, side]), plain + read);
        // Where the steps cost more than that, they are the price.
        assert_eq!(price(&spec(512, 100, 1), &[side, side]), 100_000);
    }

    proptest! {
        #[test]
        fn nothing_is_free_and_more_of_anything_never_costs_less(
            side in 1usize..4096, steps in 1usize..100, n in 1usize..4, pixels in 0u64..u64::MAX,
        ) {
            let cost = price(&spec(side, steps, n), &[]);
            prop_assert!(cost > 0);
            prop_assert!(price(&spec(side, steps + 1, n), &[]) >= cost);
            prop_assert!(price(&spec(side, steps, n + 1), &[]) >= cost);
            prop_assert!(price(&spec(side, steps, n), &[pixels]) >= cost);
        }
    }
}
