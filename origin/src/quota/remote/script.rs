//! The scripts, and how one is run.

use std::sync::atomic::Ordering;

use redis::Script;

use super::{Remote, RemoteError};

macro_rules! script {
    ($($part:literal),+) => {
        Script::new(concat!($(include_str!(concat!("scripts/", $part))),+))
    };
}

/// Every script, with the name of its hash computed once.
pub(super) struct Scripts {
    pub(super) admit: Script,
    pub(super) settle: Script,
    pub(super) arrive: Script,
    pub(super) rates: Script,
    pub(super) forgive: Script,
    pub(super) usage: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            admit: script!("prelude.lua", "user.lua", "admit.lua"),
            settle: script!("prelude.lua", "user.lua", "settle.lua"),
            arrive: script!("prelude.lua", "arrive.lua"),
            rates: script!("prelude.lua", "rates.lua"),
            forgive: script!("prelude.lua", "forgive.lua"),
            usage: script!("prelude.lua", "user.lua", "usage.lua"),
        }
    }
}

/// Arguments as the scripts unpack them: 64-bit numbers, big end first, and names of 8 bytes.
pub(super) struct Packed(Vec<u8>);

impl Packed {
    /// Begins with the turn of the clock.
    pub(super) fn new(remote: &Remote) -> Self {
        let skew = remote.inner.skew.load(Ordering::Relaxed);
        Self(skew.to_be_bytes().to_vec())
    }

    pub(super) fn number(mut self, number: u64) -> Self {
        // Lua's numbers are exact up to 2^53.
        self.0
            .extend_from_slice(&number.min((1 << 53) - 1).to_be_bytes());
        self
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn name(mut self, name: [u8; 8]) -> Self {
        self.0.extend_from_slice(&name);
        self
    }
}

impl Remote {
    /// Runs a script within the time-out; `LEAST` numbers must come back.
    pub(super) async fn run<const LEAST: usize>(
        &self,
        script: &Script,
        keys: &[String],
        packed: Packed,
    ) -> Result<[u64; LEAST], RemoteError> {
        let mut call = script.prepare_invoke();
        for key in keys {
            call.key(key.as_str());
        }
        call.arg(packed.bytes());
        let run = async |mut connection| call.invoke_async::<Vec<i64>>(&mut connection).await;
        let numbers = self.server().ask(run).await?;
        let numbers: Vec<u64> = numbers
            .into_iter()
            .filter_map(|number| u64::try_from(number).ok())
            .collect();
        <[u64; LEAST]>::try_from(numbers)
            .map_err(|_| RemoteError::Broken("another number of numbers".into()))
    }
}
