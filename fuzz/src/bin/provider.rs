//! A provider's answers: whatever it says, there are as many pictures as were asked for, or an error.

use origin::provider::wire::{self, Sent};

fn main() -> Result<(), String> {
    let seeds = [
        r#"{"created":1,"data":[{"b64_json":"AQID"}]}"#.to_owned(),
        r#"{"data":[{"url":"https://a.example/p.png?sig=x"},{"b64_json":"/+8="}]}"#.to_owned(),
        r#"{"data":[{"b64_json":null,"url":"http://169.254.169.254/"}],"usage":{}}"#.to_owned(),
        r#"{"data":[{"url":"https://[fd00::1]:1/%2e%2e/"}]}"#.to_owned(),
    ];
    fuzz::run("provider", &seeds, |input| {
        for n in 1..=2 {
            let Ok(pictures) = wire::read(input.as_bytes(), n) else {
                continue;
            };
            if pictures.len() != n {
                return Err(format!("{} pictures of {n}", pictures.len()));
            }
            let is_sound = |picture: &Sent| match picture {
                // Four characters of base64 are three bytes at most.
                Sent::File(file) => file.len() <= input.len(),
                Sent::At(uri) => uri.to_string().len() <= input.len() + 1,
            };
            if !pictures.iter().all(is_sound) {
                return Err("a picture that was not in the answer".into());
            }
        }
        Ok(())
    })
}
