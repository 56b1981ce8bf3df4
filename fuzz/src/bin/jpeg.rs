//! JPEG files: whatever one says, it is decoded into a picture of the size in its header, or refused, and never panics.

const FILES: [&[u8]; 3] = [
    include_bytes!("../../../jpeg/tests/inputs/61x47_2x2_p.jpg"),
    include_bytes!("../../../jpeg/tests/inputs/61x47_2x2_n.jpg"),
    include_bytes!("../../../jpeg/tests/inputs/17x9_cmyk_p.jpg"),
];

fn main() -> Result<(), String> {
    // Each byte as the character of its number: the runner changes text.
    let seeds = FILES.map(|file| file.iter().map(|&byte| char::from(byte)).collect());
    fuzz::run("jpeg", &seeds, |input| {
        let bytes: Vec<u8> = input.chars().map(|c| (u32::from(c) & 0xff) as u8).collect();
        let Ok(header) = jpeg::header(&bytes) else {
            return Ok(());
        };
        // A large size is its reader's to refuse.
        if u64::from(header.width) * u64::from(header.height) > 1 << 18 {
            return Ok(());
        }
        let Ok(picture) = jpeg::decode(&bytes) else {
            return Ok(());
        };
        let size = picture.width as usize * picture.height as usize * picture.samples;
        if (picture.width, picture.height) != (header.width, header.height)
            || picture.data.len() != size
        {
            return Err("a picture of another size than its header's".into());
        }
        Ok(())
    })
}
