//! The one door to every limit, whatever keeps the counts.

mod requests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use shared::client_ip::{self, WIDE_FACTOR};
use shared::gcra::Rate;

use super::memory::Memory;
use super::remote::{Admitted, Remote, RemoteError};
use super::reservation::Settle;
use super::{
    Allowance, Ask, LimitSettings, PlanSettings, Plans, PolicyUse, QuotaError, RateSettings,
    Reservation, Taken, plans,
};
use crate::clock::Clock;
use crate::state::server::Server;
use crate::state::{State, StateError, StateSettings, jobs::JobRow, users::UserRow};

/// Addresses from which a client signed in lately, so that strangers cannot lock it out.
const KNOWN_PLACES: u64 = 100_000;
const KNOWN_FOR: Duration = Duration::from_secs(86_400);
/// Spends older than this count for nothing any more.
const COUNTED_FOR: u64 = 25 * 3600 * 1_000_000_000;

/// Who wants to spend how much.
#[derive(Clone, Copy, Debug)]
pub struct Charge<'a> {
    /// The client's address.
    pub address: IpAddr,
    /// The token's id.
    pub token: &'a str,
    /// The user.
    pub user: &'a str,
    /// Cost in thousandths of a unit.
    pub milliunits: u64,
    /// The user's limits ([`Limits::allowance`]).
    pub allowed: Allowance,
}

impl<'a> From<Charge<'a>> for Ask<'a> {
    fn from(charge: Charge<'a>) -> Self {
        let group = client_ip::group(charge.address);
        Self {
            narrow: group.narrow,
            wide: group.wide,
            token: charge.token,
            user: charge.user,
            milliunits: charge.milliunits,
            allowed: charge.allowed,
        }
    }
}

/// Rates of addresses, which no plan changes. Two are that of an address and that of the IPv6 /48 around it.
#[derive(Debug)]
pub(super) struct Rates {
    pub(super) address: Rate,
    pub(super) wide: Rate,
    pub(super) reads: Rate,
    pub(super) uploads: Rate,
    pub(super) writes: Rate,
    pub(super) uploads_work: Rate,
    pub(super) links: [Rate; 2],
    pub(super) token_endpoint: [Rate; 2],
    pub(super) token_endpoint_client: Rate,
}

/// Where an admission was charged, and is settled.
#[derive(Debug)]
pub(super) enum Ticket {
    /// In this process.
    Here {
        taken: Taken,
        /// Its durable record, where there is one.
        record: Option<Box<str>>,
    },
    /// At the server that all processes share.
    Shared(Admitted),
}

/// The limits. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Limits {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: LimitSettings,
    base: Allowance,
    plans: Plans,
    rates: Rates,
    /// The counts themselves, or beside a server the bound that is kept while it is away.
    memory: Memory,
    remote: Option<Remote>,
    ledger: Option<State>,
    known_places: Cache<(Box<str>, IpAddr), ()>,
}

impl Limits {
    /// Limits that forget everything with the process.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub fn new(settings: &LimitSettings, plans: &Plans) -> Result<Self, String> {
        Self::build(settings, plans, None, None)
    }

    /// Limits whose spends are recorded in the state before a job starts, and read back at the start: the sliding
    /// hour, the units of the day and the places of open jobs outlive the process. What a crash left unsettled without
    /// a job is given back. `now` in nanoseconds.
    ///
    /// # Errors
    /// A sentence that names the setting, or the state's own.
    pub async fn open(
        settings: &LimitSettings,
        plans: &Plans,
        state: &State,
        now: u64,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let limits = Self::build(settings, plans, Some(state.clone()), None)?;
        for spend in state
            .recover_spends(now.saturating_sub(COUNTED_FOR))
            .await?
        {
            limits
                .inner
                .memory
                .remember(&spend.user_id, spend.at, spend.milliunits);
        }
        for user in state.places_in_use().await? {
            limits.inner.memory.occupy(&user);
        }
        Ok(limits)
    }

    /// Whether a shared server is configured and does not answer.
    pub async fn is_away(&self) -> bool {
        match &self.inner.remote {
            Some(remote) => !remote.server().answers().await,
            None => false,
        }
    }

    /// Limits that all processes of a deployment share, kept by the server behind `state.url`. Must be called on a
    /// runtime; a server that is away is no error.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub fn shared(
        settings: &LimitSettings,
        plans: &Plans,
        state: &StateSettings,
    ) -> Result<Self, String> {
        let server = Server::open(state).map_err(|error| format!("state.url: {error}"))?;
        Self::build(settings, plans, None, Some(Remote::new(server)))
    }

    /// The server that all processes share, where there is one.
    pub(crate) fn server(&self) -> Option<Server> {
        let remote = self.inner.remote.as_ref();
        remote.map(|remote| remote.server().clone())
    }

    fn build(
        settings: &LimitSettings,
        plans: &Plans,
        ledger: Option<State>,
        remote: Option<Remote>,
    ) -> Result<Self, String> {
        settings.validate()?;
        plans::validate(plans)?;
        let rate = |one: RateSettings| one.rate().ok_or_else(|| "a rate of 0".to_owned());
        let wide = |one: RateSettings| {
            rate(RateSettings {
                per_minute: one.per_minute.saturating_mul(WIDE_FACTOR),
                burst: one.burst.saturating_mul(WIDE_FACTOR),
            })
        };
        let both = |one: RateSettings| Ok::<_, String>([rate(one)?, wide(one)?]);
        let rates = Rates {
            address: rate(settings.address)?,
            wide: wide(settings.address)?,
            reads: rate(settings.reads)?,
            uploads: rate(settings.uploads)?,
            writes: rate(settings.writes)?,
            uploads_work: rate(settings.uploads_work)?,
            links: both(settings.links)?,
            token_endpoint: both(settings.token_endpoint)?,
            token_endpoint_client: rate(settings.token_endpoint_client)?,
        };
        let known_places = Cache::builder()
            .max_capacity(KNOWN_PLACES)
            .time_to_live(KNOWN_FOR)
            .build();
        Ok(Self {
            inner: Arc::new(Inner {
                base: Allowance::of(settings)?,
                settings: settings.clone(),
                plans: plans.clone(),
                rates,
                memory: Memory::new(),
                remote,
                ledger,
                known_places,
            }),
        })
    }

    /// The configured limits.
    pub fn settings(&self) -> &LimitSettings {
        &self.inner.settings
    }

    /// The limits of a user: `[limits]`, changed by the user's plan, changed by what was decided for this user alone.
    pub fn allowance(&self, user: &UserRow) -> Allowance {
        let name = user.plan.as_deref().unwrap_or(plans::DEFAULT_PLAN);
        let plan = self.inner.plans.get(name);
        if plan.is_none() && user.plan.is_some() {
            tracing::warn!(plan = name, "a user has a plan that is not configured");
        }
        let mut allowed = self.inner.base;
        if let Some(plan) = plan.or_else(|| self.inner.plans.get(plans::DEFAULT_PLAN)) {
            allowed = allowed.under(plan);
        }
        if !user.overrides.is_empty() {
            match PlanSettings::parse(&user.overrides) {
                Ok(own) => allowed = allowed.under(&own),
                Err(error) => tracing::error!(%error, "a user's own limits cannot be read"),
            }
        }
        if !self.inner.settings.enabled {
            allowed.storage_bytes = u64::MAX;
        }
        allowed
    }

    /// Charges every layer of a generation, or none. `now` in nanoseconds.
    ///
    /// # Errors
    /// The first layer that refused, or a state that cannot record the charge.
    pub async fn admit(&self, charge: Charge<'_>, now: u64) -> Result<Reservation, QuotaError> {
        if !self.inner.settings.enabled {
            return Ok(Reservation::new(self.clone(), None, &charge, now, u64::MAX));
        }
        let ask = Ask::from(charge);
        if let Some(remote) = &self.inner.remote {
            match remote.admit(&ask, &self.inner.rates).await {
                Ok(verdict) => {
                    let (admitted, remaining) = verdict?;
                    let ticket = Some(Ticket::Shared(admitted));
                    return Ok(Reservation::new(
                        self.clone(),
                        ticket,
                        &charge,
                        now,
                        remaining,
                    ));
                }
                // Data that cannot be right is no reason to spend.
                Err(error @ RemoteError::Broken(_)) => {
                    return Err(StateError::Other(error.to_string()).into());
                }
                Err(RemoteError::Away(_)) => {}
            }
        }
        let (taken, remaining) = self.inner.memory.admit(&ask, &self.inner.rates, now)?;
        let record = self.inner.ledger.as_ref().map(|_| spend_id());
        let ticket = Ticket::Here {
            taken,
            record: record.clone(),
        };
        // From here on a drop, as when the client leaves, gives the charge back.
        let reservation = Reservation::new(self.clone(), Some(ticket), &charge, now, remaining);
        if let (Some(ledger), Some(id)) = (&self.inner.ledger, record) {
            ledger
                .reserve_spend(&id, charge.user, now, charge.milliunits)
                .await?;
        }
        Ok(reservation)
    }

    /// The admission of a job that another process took, from its row.
    pub fn resume(&self, job: &JobRow) -> Reservation {
        let charge = &job.charge;
        let shared = charge.admission.as_deref();
        let shared = shared.and_then(|text| serde_json::from_str::<Admitted>(text).ok());
        let ticket = match (&self.inner.remote, shared) {
            _ if !self.inner.settings.enabled => None,
            (Some(_), shared) => shared.map(Ticket::Shared),
            (None, _) => Some(Ticket::Here {
                taken: Taken {
                    user: job.user_id.as_str().into(),
                    at: charge.admitted,
                    // Without a record nothing was counted.
                    milliunits: charge.spend.as_ref().map_or(0, |_| job.milliunits),
                    rates: None,
                },
                record: None,
            }),
        };
        Reservation::resumed(self.clone(), ticket, job)
    }

    /// Ends an admission in the counts, and in its record where that is not a job's.
    pub(super) fn settle(&self, ticket: Ticket, settle: Settle, with_record: bool) {
        let (taken, record) = match ticket {
            Ticket::Here { taken, record } => (taken, record),
            Ticket::Shared(admitted) => {
                if let Some(remote) = &self.inner.remote {
                    remote.settle(admitted, settle);
                }
                return;
            }
        };
        self.inner.memory.settle(&taken, settle, &self.inner.rates);
        if let (Some(ledger), Some(id)) = (&self.inner.ledger, record.filter(|_| with_record)) {
            let kept = match settle {
                Settle::Refund => None,
                Settle::Keep(milliunits) => Some(milliunits),
            };
            ledger.settle_spend(id, kept);
        }
    }

    /// Forgets spends that count no more, every hour for as long as the runtime lives.
    pub fn tidy_regularly(&self, clock: Clock) {
        let Some(ledger) = self.inner.ledger.clone() else {
            return;
        };
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(KNOWN_FOR / 24).await;
                let from = clock.nanos().saturating_sub(COUNTED_FOR);
                if let Err(error) = ledger.forget_spends(from).await {
                    tracing::warn!(%error, "old spends could not be forgotten");
                }
            }
        });
    }

    /// Every limit that applies to the caller, as it stands. `stored` in bytes, `now` in nanoseconds.
    pub async fn usage(&self, charge: Charge<'_>, stored: u64, now: u64) -> Vec<PolicyUse> {
        let settings = &self.inner.settings;
        if !settings.enabled {
            return Vec::new();
        }
        let penalty = settings.penalty_arrivals;
        let (ask, rates) = (charge.into(), &self.inner.rates);
        let shared = match &self.inner.remote {
            Some(remote) => remote.usage(&ask, rates, penalty).await.ok(),
            None => None,
        };
        let mut rows = shared.unwrap_or_else(|| self.inner.memory.usage(&ask, rates, penalty, now));
        let limit = charge.allowed.storage_bytes;
        rows.push(super::usage::count("storage", limit, stored, None, None));
        rows
    }
}

/// Names a durable record.
fn spend_id() -> Box<str> {
    format!("{:032x}", rand::random::<u128>()).into()
}

#[cfg(test)]
impl Limits {
    /// Resolves when what was settled so far is written down.
    pub(super) async fn settled(&self) {
        if let Some(remote) = &self.inner.remote {
            remote.flush().await;
        }
    }

    /// The rates of addresses.
    pub(super) fn rates(&self) -> &Rates {
        &self.inner.rates
    }

    /// The server, where there is one.
    pub(super) fn remote(&self) -> Option<&Remote> {
        self.inner.remote.as_ref()
    }

    /// Addresses and users that are kept in memory.
    pub(super) fn kept(&self) -> (usize, usize) {
        self.inner.memory.kept()
    }
}
