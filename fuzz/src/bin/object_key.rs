//! Object keys: what is accepted stays inside the store's folder and needs no encoding anywhere.

use shared::object_key::ObjectKey;

fn main() -> Result<(), String> {
    let mut seeds: Vec<String> = fuzz::vectors()?
        .iter()
        .filter_map(|vector| {
            vector
                .get("target")?
                .as_str()?
                .split('?')
                .next()?
                .strip_prefix('/')
                .map(Into::into)
        })
        .collect();
    seeds.extend(["...", ".a", "a/...b/c", "-/_"].map(String::from));
    fuzz::run("object_key", &seeds, |input| {
        let Ok(key) = ObjectKey::parse(input) else {
            return Ok(());
        };
        let path = std::path::Path::new(key.as_str());
        let plain = path
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)));
        let whole = path.components().count() == key.as_str().split('/').count();
        let clean = key
            .as_str()
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || b"-_./".contains(&c));
        if !plain || !whole || !clean || key.as_str() != input || input.len() > 512 {
            return Err("an odd key is accepted".into());
        }
        match key.counterpart() {
            Some(other) if other.counterpart().as_ref() != Some(&key) => {
                Err("a counterpart's counterpart is another key".into())
            }
            _ => Ok(()),
        }
    })
}
