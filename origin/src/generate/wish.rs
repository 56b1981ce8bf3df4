//! How the client wants to be answered: `Prefer` (RFC 7240).

use std::time::Duration;

use actix_web::HttpRequest;

/// How long a request waits for its job when it does not say.
const USUAL: u64 = 60;
/// The longest wait, in seconds: proxies give up on longer ones.
const LONGEST: u64 = 300;

/// The client's wish. What is not understood is ignored, as the RFC has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    respond_async: bool,
    wait: Option<u64>,
}

impl Wish {
    pub(super) fn read(request: &HttpRequest) -> Self {
        let lines = request.headers().get_all("prefer");
        Self::parse(lines.filter_map(|line| line.to_str().ok()))
    }

    fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut wish = Self {
            respond_async: false,
            wait: None,
        };
        for preference in lines.flat_map(|line| line.split(',')) {
            // A preference's parameters, after `;`, mean nothing here.
            let preference = preference.split(';').next().unwrap_or("").trim();
            let (name, value) = match preference.split_once('=') {
                Some((name, value)) => (name.trim(), value.trim().trim_matches('"')),
                None => (preference, ""),
            };
            if name.eq_ignore_ascii_case("respond-async") {
                wish.respond_async = true;
            } else if name.eq_ignore_ascii_case("wait") && wish.wait.is_none() {
                wish.wait = value.parse().ok();
            }
        }
        wish
    }

    /// Whether the job's address is answer enough.
    pub(super) fn is_async(&self) -> bool {
        self.respond_async
    }

    /// How long to wait for the end.
    pub(super) fn wait(&self) -> Duration {
        let usual = if self.respond_async { 0 } else { USUAL };
        Duration::from_secs(self.wait.unwrap_or(usual).min(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(lines: &[&str]) -> (bool, u64) {
        let wish = Wish::parse(lines.iter().copied());
        (wish.is_async(), wish.wait().as_secs())
    }

    #[test]
    fn preferences_are_read_as_the_rfc_writes_them() {
        assert_eq!(seconds(&[]), (false, 60));
        assert_eq!(seconds(&["wait=10"]), (false, 10));
        assert_eq!(seconds(&["respond-async"]), (true, 0));
        assert_eq!(seconds(&["Respond-Async, wait = 5"]), (true, 5));
        assert_eq!(seconds(&["wait=\"7\"; strict", "wait=9"]), (false, 7));
        assert_eq!(seconds(&["handling=lenient", "wait=0"]), (false, 0));
        assert_eq!(seconds(&["wait=99999"]), (false, 300));
        for nonsense in [
            "wait",
            "wait=",
            "wait=-1",
            "wait=x",
            ",,;=",
            "respond-asynchronously",
        ] {
            assert_eq!(seconds(&[nonsense]), (false, 60), "{nonsense}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_lines_never_panic(line in ".{0,60}|(wait|respond-async)[=;, \"0-9]{0,20}") {
            prop_assert!(Wish::parse([line.as_str()].into_iter()).wait().as_secs() <= 300);
        }
    }
}
