//! Links: no mutation of a good link opens, nothing panics, and a link has one spelling; what hangs on it is taken off to
//! nothing but that; every name and every range that is read is one that a link carries.

use std::collections::HashSet;

use shared::keyring::Keyring;
use shared::link::{AddressRange, UnverifiedLink, is_download_name, is_wide_name, safe_name};

fn main() -> Result<(), String> {
    let vectors = fuzz::vectors()?;
    let text = |value: &serde_json::Value, name: &str| -> String {
        value
            .get(name)
            .and_then(|v| v.as_str())
            .unwrap_or_default()
            .into()
    };
    let first = vectors.first().ok_or("no vectors")?;
    let ring = Keyring::parse(&text(first, "ring")).map_err(|error| error.to_string())?;
    let now = first
        .get("now")
        .and_then(serde_json::Value::as_u64)
        .ok_or("no time")?;
    let targets: Vec<String> = vectors
        .iter()
        .map(|vector| text(vector, "target"))
        .collect();
    // A mutation can turn one vector into another: those that carry a valid MAC may open.
    let signed: HashSet<String> = targets.iter().cloned().collect();
    let opens = |target: &str| {
        UnverifiedLink::parse(target)
            .is_ok_and(|link| link.verify(&ring, now, "198.51.100.7".parse().ok()).is_ok())
    };
    if !targets.iter().any(|target| opens(target)) {
        return Err("no seed opens: the run would prove nothing".into());
    }
    fuzz::run("link", &targets, |input| {
        if opens(input) && !signed.contains(input) {
            return Err("a link that nobody signed opens".into());
        }
        if let Ok((link, Some(clean))) = UnverifiedLink::parse_tracked(input, || true) {
            let holds = link.verify(&ring, now, "198.51.100.7".parse().ok()).is_ok();
            if UnverifiedLink::parse(input).is_ok() || holds && !signed.contains(&clean.to_string())
            {
                return Err("what is no link with trackers is sent on".into());
            }
        }
        Ok(())
    })?;
    let names = [
        "größe.png",
        "my (1) picture.jpg",
        "../a\\b.png",
        "con.a",
        "com¹.png",
        "\u{202e}gnp.exe",
        "e\u{301}\u{323}.webp",
    ];
    fuzz::run("download name", &names.map(String::from), |input| {
        let name = safe_name(input, "png").ok_or("a text became no name")?;
        let is_name = |name: &str| is_download_name(name, "png") || is_wide_name(name, "png");
        if !is_name(&name) || (is_name(input) && name != input) {
            return Err(format!(
                "{name:?} is no name, or another one than was asked for"
            ));
        }
        Ok(())
    })?;
    let ranges = [
        "203.0.113.0/24",
        "2001:db8::/64",
        "::ffff:203.0.113.9",
        "20010db8000000000000000000000000-64",
        "10.0.0.0/255.0.0.0",
    ];
    fuzz::run("address range", &ranges.map(String::from), |input| {
        match (AddressRange::read(input), AddressRange::parse(input)) {
            (Ok(range), _) if AddressRange::parse(&range.to_string()) != Ok(range) => {
                Err(format!("{range} is read otherwise in a link"))
            }
            (read, Ok(range)) if read != Ok(range) => {
                Err("a link's own spelling is not read".into())
            }
            _ => Ok(()),
        }
    })
}
