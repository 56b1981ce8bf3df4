//! RFC 9421: no change of the two headers or of a covered part is accepted.

use base64::{Engine, engine::general_purpose::STANDARD};
use shared::edge_auth::{HEADERS, Message, sign, verify};
use shared::keyring::Keyring;

const NOW: u64 = 1_800_000_000;

fn main() -> Result<(), String> {
    let ring = Keyring::parse(&format!("e1:{}", STANDARD.encode([7; 32])))
        .map_err(|error| error.to_string())?;
    let base = Message {
        method: "POST",
        authority: "api.example.com",
        path: "/api/generate",
        query: Some("a=b"),
        headers: std::array::from_fn::<_, { HEADERS.len() }, _>(|index| {
            (index % 2 == 0).then_some("value")
        }),
    };
    let signed = sign(&ring, &base, NOW, "0123456789abcdef").map_err(|error| error.to_string())?;
    let good = [&signed.signature_input, &signed.signature];
    let check = |message: &Message<'_>, input: &str, signature: &str| {
        verify(&ring, message, input, signature, NOW).is_ok()
    };
    if !check(&base, good[0], good[1]) {
        return Err("the seed is refused: the run would prove nothing".into());
    }
    fuzz::run("edge_auth headers", &good.map(Clone::clone), |input| {
        let forged_input = input != good[0] && check(&base, input, good[1]);
        let forged_signature = input != good[1] && check(&base, good[0], input);
        if forged_input || forged_signature {
            return Err("another spelling of a signed request is accepted".into());
        }
        Ok(())
    })?;
    let parts = ["POST", "api.example.com", "/api/generate", "a=b", "value"].map(String::from);
    fuzz::run("edge_auth components", &parts, |input| {
        let mut changed: Vec<_> = (0..4 + HEADERS.len()).map(|_| base).collect();
        let mut was = vec!["POST", "api.example.com", "/api/generate", "a=b"];
        for (place, message) in changed.iter_mut().enumerate() {
            match place {
                0 => message.method = input,
                1 => message.authority = input,
                2 => message.path = input,
                3 => message.query = Some(input),
                _ => {
                    let slot = message.headers.get_mut(place - 4);
                    was.push(slot.and_then(|slot| slot.replace(input)).unwrap_or("\0"));
                }
            }
        }
        let names = ["@method", "@authority", "@path", "@query"]
            .into_iter()
            .chain(HEADERS);
        for ((message, was), name) in changed.iter().zip(was).zip(names) {
            if input != was && check(message, good[0], good[1]) {
                return Err(format!("another {name} is accepted"));
            }
        }
        Ok(())
    })
}
