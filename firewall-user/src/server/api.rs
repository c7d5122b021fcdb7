//! The verbs: what can be asked, once, for HTTP and WebSocket alike.

mod about;

use super::{
    arguments::{ApplyArgs, CheckArgs, KillArgs, Nothing, RuleArgs},
    audit,
    auth::Identity,
    dump,
    error::ApiError,
    explain,
    history::{self, HistoryQuery},
    learn::{self, LearnQuery},
    mappings, names, nat, query,
    query::Query,
    sets,
    sockets::{self, Block, KillQuery, SocketQuery},
    ws::hub::Hub,
};
use crate::{
    daemon::{
        control::{
            Change, ChangeOptions, Control, ControlError, Kill, Killed, Place, explain::Explainer,
        },
        sockets::Sockets,
    },
    monitor::Monitor,
    netfilter::{Netfilter, Shown},
    paths::Paths,
    store::{History, Origin, now_ms},
    view::{EventView, FlowView, KilledView, NatWhoView, RuleView},
};
use axum::{http::StatusCode, response::Response};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// All verbs, as in `hello.capabilities`.
pub const VERBS: [&str; 46] = [
    "status",
    "stats",
    "rules",
    "plan",
    "flows",
    "flows.kill",
    "events",
    "policy",
    "policy.check",
    "policy.apply",
    "rule.add",
    "rule.delete",
    "rule.move",
    "rule.enable",
    "rule.disable",
    "counters.reset",
    "nat.who",
    "nat.mappings",
    "nat.rules",
    "nat.hosts",
    "nat.pools",
    "netfilter.flows",
    "netfilter.accounts",
    "sockets",
    "sockets.stats",
    "sockets.drops",
    "sockets.show",
    "sockets.samples",
    "sockets.attributes",
    "sockets.note",
    "sockets.kill",
    "summary",
    "summary.reset",
    "names",
    "paths",
    "history",
    "learn",
    "explain",
    "replay",
    "sets",
    "sets.show",
    "sets.add",
    "sets.delete",
    "sets.flush",
    "sets.load",
    "sets.test",
];

/// Everything the server knows.
#[derive(Debug)]
pub struct Api {
    control: Control,
    monitor: Arc<Mutex<Monitor>>,
    hub: Arc<Hub>,
    history: Option<History>,
    netfilter: Option<Netfilter>,
    sockets: Option<Sockets>,
    paths: Paths,
    explainer: Explainer,
}

impl Api {
    /// An API over the daemon's core, its model, and its switchboard.
    pub fn new(control: Control, monitor: Arc<Mutex<Monitor>>, hub: Arc<Hub>) -> Self {
        Self {
            explainer: Explainer::new(control.clone()),
            control,
            monitor,
            hub,
            history: None,
            netfilter: None,
            sockets: None,
            paths: Paths::default(),
        }
    }

    /// With a history.
    #[must_use]
    pub fn with_history(self, history: Option<History>) -> Self {
        Self { history, ..self }
    }

    /// And over the kernel's own connection tracking, where it is to be followed.
    #[must_use]
    pub fn beside(self, netfilter: Option<Netfilter>) -> Self {
        Self { netfilter, ..self }
    }

    /// And over the machine's sockets, where they are to be followed.
    #[must_use]
    pub fn with_sockets(self, sockets: Option<Sockets>) -> Self {
        Self { sockets, ..self }
    }

    /// The switchboard for WebSocket sessions.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Does `verb`; what changes something is written down, with who asked for it.
    ///
    /// # Errors
    /// Whatever is wrong with the verb, its arguments, or the state of things.
    pub async fn call(&self, verb: &str, args: Value, who: &Identity) -> Result<Value, ApiError> {
        let begun = self.history.as_ref().and_then(|_| audit::begin(verb, &args, who));
        let outcome = self.answer(verb, args, who).await;
        if let (Some(history), Some(deed)) = (&self.history, begun) {
            history.done(audit::end(deed, &outcome));
        }
        outcome
    }

    async fn answer(&self, verb: &str, args: Value, who: &Identity) -> Result<Value, ApiError> {
        // Whoever asks wants to see what was just sent.
        if matches!(
            verb,
            "status"
                | "stats"
                | "rules"
                | "flows"
                | "events"
                | "nat.who"
                | "nat.pools"
                | "sockets"
                | "sockets.show"
                | "sockets.attributes"
                | "sockets.kill"
                | "summary"
                | "summary.reset"
        ) {
            self.control.refresh().await;
        }
        match verb {
            "status" => {
                let Nothing {} = parse(args)?;
                let mut status = self.control.status().await?;
                status.history =
                    self.history.as_ref().map(|history| nat::stats_view(&history.stats()));
                status.limits.extend(self.netfilter.iter().flat_map(Netfilter::limits));
                status.limits.extend(self.sockets.iter().flat_map(Sockets::limits));
                status.paths = self.paths.summary(&self.control).await;
                done(status)
            }
            "stats" => {
                let Nothing {} = parse(args)?;
                let mut stats = (*self.model().stats()).clone();
                stats.netfilter = self.netfilter.as_ref().map(Netfilter::stats);
                done(stats)
            }
            "rules" => self.rules(&parse(args)?),
            "plan" => {
                let Nothing {} = parse(args)?;
                done(self.control.plan().await?)
            }
            "flows" => self.flows(&parse(args)?),
            "flows.kill" => self.kill(parse(args)?).await,
            "events" => self.events(&parse(args)?),
            "netfilter.flows" => self.netfilter_flows(&parse(args)?).await,
            "netfilter.accounts" => {
                let Nothing {} = parse(args)?;
                let netfilter = self.netfilter()?;
                netfilter.refresh().await;
                Ok(json!({"rows": netfilter.accounts(), "limits": netfilter.limits()}))
            }
            "sockets" => {
                let query: SocketQuery = parse(args)?;
                let flows = |each: &mut dyn FnMut(FlowView)| self.model().flows().for_each(each);
                let calls = |each: &mut dyn FnMut(&EventView)| {
                    let model = self.model();
                    let all = model.events().all().map(|(_, event)| event);
                    all.filter(|event| event.class == "call").for_each(|event| each(&event));
                };
                let (total, rows) = sockets::sockets(self.sockets()?, flows, calls, &query).await?;
                Ok(json!({"total": total, "rows": rows, "limits": self.sockets()?.limits()}))
            }
            "sockets.show" | "sockets.samples" | "sockets.attributes" | "sockets.note"
            | "summary" | "summary.reset" => self.about_sockets(verb, args).await,
            "sockets.kill" => {
                let query: KillQuery = parse(args)?;
                let flows = |each: &mut dyn FnMut(FlowView)| self.model().flows().for_each(each);
                let block = async |block| self.block(block, who).await;
                done(sockets::kill(self.sockets()?, flows, block, query).await?)
            }
            "sets" | "sets.show" | "sets.add" | "sets.delete" | "sets.flush" | "sets.load"
            | "sets.test" => sets::answer(&self.control, verb, args).await,
            "explain" => done(self.explainer.explain(explain::ask(parse(args)?)?).await?),
            "replay" => done(self.explainer.replay(explain::replay(parse(args)?)?).await?),
            "learn" => {
                let query: LearnQuery = parse(args)?;
                let flows = |each: &mut dyn FnMut(FlowView)| self.model().flows().for_each(each);
                done(learn::learn(self.sockets()?, flows, self.history.clone(), &query).await?)
            }
            "sockets.drops" => {
                let Nothing {} = parse(args)?;
                sockets::fresh(self.sockets()?).await?;
                done(self.sockets()?.drops())
            }
            "names" => {
                let (total, rows) = names::names(self.sockets()?, &parse(args)?).await?;
                Ok(json!({"total": total, "rows": rows}))
            }
            "sockets.stats" => {
                let Nothing {} = parse(args)?;
                done(self.sockets()?.stats())
            }
            "paths" => {
                let Nothing {} = parse(args)?;
                done(&*self.paths.view(&self.control).await?)
            }
            "history" => {
                let query: HistoryQuery = parse(args)?;
                history::history(self.history.clone(), &query).await
            }
            "policy" => {
                let Nothing {} = parse(args)?;
                done(self.control.policy().await)
            }
            "policy.check" => {
                let CheckArgs { text, ssh_connection } = parse(args)?;
                done(self.control.check(text, ssh_connection).await?)
            }
            "policy.apply" => {
                let ApplyArgs { text, base_generation, dry_run, force, ssh_connection } =
                    parse(args)?;
                let options = ChangeOptions { base_generation, dry_run, force, ssh_connection };
                self.change(Change::Replace(text), options, who).await
            }
            "rule.add" | "rule.delete" | "rule.move" | "rule.enable" | "rule.disable" => {
                let mut args: RuleArgs = parse(args)?;
                let change = match verb {
                    "rule.add" => Change::Add {
                        text: args
                            .text
                            .take()
                            .ok_or_else(|| ApiError::bad_request("`text` is missing: the rule"))?,
                        place: args.place()?.unwrap_or_default(),
                    },
                    "rule.move" => Change::Move {
                        name: args.name()?,
                        place: args.place()?.ok_or_else(|| {
                            ApiError::bad_request("where to? give `position`, `before` or `after`")
                        })?,
                    },
                    "rule.delete" => Change::Delete(args.name()?),
                    "rule.enable" => Change::Enable(args.name()?),
                    _ => Change::Disable(args.name()?),
                };
                if args.name.is_some() || args.text.is_some() || args.place()?.is_some() {
                    return Err(ApiError::bad_request(format!(
                        "`{verb}` doesn't take all of these arguments"
                    )));
                }
                let RuleArgs { base_generation, dry_run, force, ssh_connection, .. } = args;
                self.change(
                    change,
                    ChangeOptions { base_generation, dry_run, force, ssh_connection },
                    who,
                )
                .await
            }
            "counters.reset" => {
                let Nothing {} = parse(args)?;
                self.control.reset_counters().await?;
                log::info!("counters reset");
                Ok(json!({"ok": true}))
            }
            "nat.who" => {
                let query = parse::<nat::WhoArgs>(args)?.query(now_ms())?;
                let mut answer = nat::who(self.history.clone(), query).await?;
                self.live_totals(&mut answer);
                done(answer)
            }
            "nat.mappings" => {
                let query: Query = parse(args)?;
                unasked("mappings", &[("after", query.after.is_some())])?;
                let lens = || self.model().lens();
                let netfilter = self.netfilter.as_ref();
                let (total, rows) =
                    mappings::mappings(&self.control, lens, netfilter, &query).await?;
                Ok(json!({"total": total, "rows": rows}))
            }
            "nat.rules" => {
                let Nothing {} = parse(args)?;
                let reading = self.control.nat_reading().await?;
                Ok(json!({"rows": self.model().lens().nat_rules(&reading)}))
            }
            "nat.hosts" => {
                let query: Query = parse(args)?;
                let other = [("filter", query.filter.is_some()), ("after", query.after.is_some())];
                unasked("hosts", &other)?;
                let reading = self.control.nat_reading().await?;
                let rows = self.model().lens().nat_hosts(&reading);
                let (total, rows) = mappings::hosts(rows, &query)?;
                Ok(json!({"total": total, "rows": rows}))
            }
            "nat.pools" => {
                let Nothing {} = parse(args)?;
                Ok(json!({"rows": self.model().nat_pools()}))
            }
            _ => Err(ApiError::bad_request(format!(
                "there is no verb `{verb}`; there are: {}",
                VERBS.join(", ")
            ))),
        }
    }

    async fn change(
        &self,
        change: Change,
        options: ChangeOptions,
        who: &Identity,
    ) -> Result<Value, ApiError> {
        log::debug!("{} asks for {change:?}", who.role.name());
        done(self.control.change(change, options).await?)
    }

    /// Refuses addresses by two rules at the top of the policy, one each way; their names.
    async fn block(&self, block: Block, who: &Identity) -> Result<Vec<String>, ApiError> {
        let Block { addresses, force, ssh_connection } = block;
        let taken: Vec<String> = self.model().rules().iter().map(|row| row.name.clone()).collect();
        let free = |n: &u32| {
            let both = [format!("blocked-{n}-to"), format!("blocked-{n}-from")];
            (!both.iter().any(|name| taken.contains(name))).then_some(both)
        };
        let names = (1u32..).find_map(|n| free(&n)).unwrap_or_default();
        let set: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        let set = set.join(", ");
        for (name, side) in names.iter().zip(["to", "from"]) {
            let change = Change::Add {
                text: format!("rule {name} drop {side} {{ {set} }}"),
                place: Place::Position(1),
            };
            let ssh_connection = ssh_connection.clone();
            let options =
                ChangeOptions { base_generation: None, dry_run: false, force, ssh_connection };
            if let Err(error) = self.change(change, options, who).await {
                if side == "from" {
                    // Half a block is none.
                    let back = ChangeOptions { force: true, ..ChangeOptions::default() };
                    self.change(Change::Delete(names[0].clone()), back, who).await?;
                }
                return Err(error);
            }
        }
        log::info!("{set} blocked by {}", names.join(", "));
        Ok(names.into())
    }

    /// The flow table as a stream of rows; see [`dump`].
    ///
    /// # Errors
    /// Filter or order make no sense.
    pub fn stream_flows(&self, args: Value) -> Result<Response, ApiError> {
        let wanted = dump::Wanted::new(&parse(args)?)?;
        let monitor = self.monitor.clone();
        let lens = move || monitor.lock().unwrap_or_else(PoisonError::into_inner).lens();
        Ok(dump::respond(self.control.clone(), Arc::new(lens), wanted))
    }

    fn rules(&self, query: &Query) -> Result<Value, ApiError> {
        let filter = query::filter::<RuleView>(query.filter.as_deref().unwrap_or(""))?;
        let model = self.model();
        let mut rows = model.rules();
        rows.retain(|row| filter.as_ref().is_none_or(|filter| filter.matches(&**row)));
        let rows: Vec<&RuleView> = rows.iter().map(|row| &**row).collect();
        Ok(json!({"generation": model.generation(), "rows": rows}))
    }

    fn flows(&self, query: &Query) -> Result<Value, ApiError> {
        let filter = query::filter::<FlowView>(query.filter.as_deref().unwrap_or(""))?;
        if filter.is_none()
            && let Some((order, turned)) = query::quick_order(query.sort.as_deref())
        {
            let (total, rows) = self.model().top_flows(order, turned, query.limit());
            return Ok(json!({"total": total, "rows": rows}));
        }
        let mut rows: Vec<FlowView> = {
            let model = self.model();
            model
                .flows()
                .filter(|row| filter.as_ref().is_none_or(|filter| filter.matches(row)))
                .collect()
        };
        query::sort_flows(&mut rows, query.sort.as_deref())?;
        let total = rows.len();
        rows.truncate(query.limit());
        Ok(json!({"total": total, "rows": rows}))
    }

    async fn kill(&self, args: KillArgs) -> Result<Value, ApiError> {
        let KillArgs { filter, dry_run, limit } = args;
        let Some(filter) = query::filter::<FlowView>(&filter)? else {
            return Err(ApiError::bad_request(
                "an empty filter would take out every flow; say so: `family in (4, 6)`",
            ));
        };
        let text = filter.text().to_owned();
        let limit = Query { limit, ..Query::default() }.limit();
        let Killed { total, rows } = self.control.kill(Kill { filter, dry_run, limit }).await?;
        if !dry_run {
            log::info!("{total} flows killed: {text}");
        }
        done(KilledView { dry_run, total: total as u64, rows })
    }

    fn events(&self, query: &Query) -> Result<Value, ApiError> {
        let filter = query::filter::<EventView>(query.filter.as_deref().unwrap_or(""))?;
        let model = self.model();
        let after = query.after.unwrap_or(0);
        let mut rows: Vec<Arc<EventView>> = model
            .events()
            .all()
            .rev()
            .take_while(|(seq, _)| *seq > after)
            .filter(|(_, row)| filter.as_ref().is_none_or(|filter| filter.matches(&**row)))
            .take(query.limit())
            .map(|(_, row)| row)
            .collect();
        rows.reverse();
        let seq = model.events().last_seq();
        drop(model);
        let rows: Vec<&EventView> = rows.iter().map(|row| &**row).collect();
        Ok(json!({"epoch": self.hub.epoch(), "seq": seq, "rows": rows}))
    }

    /// What lives has its totals in the flow table, not in the history.
    fn live_totals(&self, answer: &mut NatWhoView) {
        let model = self.model();
        for row in answer.bindings.iter_mut().filter(|row| row.end.is_none()) {
            let id = u64::from_str_radix(&row.id, 16).ok();
            let Some(flow) = id.and_then(|id| model.flow(id)) else { continue };
            if row.origin == Origin::Sluice.name() {
                row.packets = flow.packets;
                row.bytes = flow.bytes;
                row.reply_packets = flow.reply_packets;
                row.reply_bytes = flow.reply_bytes;
            }
        }
    }

    async fn netfilter_flows(&self, query: &Query) -> Result<Value, ApiError> {
        if query.sort.is_some() || query.after.is_some() {
            return Err(ApiError::bad_request(
                "netfilter's flows come largest first: they take `filter` and `limit` only",
            ));
        }
        let filter = query::filter::<Shown>(query.filter.as_deref().unwrap_or(""))?;
        let netfilter = self.netfilter()?;
        netfilter.refresh().await;
        let (total, rows) = netfilter.flows(filter.as_ref(), query.limit());
        Ok(json!({"total": total, "rows": rows, "limits": netfilter.limits()}))
    }

    fn netfilter(&self) -> Result<&Netfilter, ApiError> {
        self.netfilter.as_ref().ok_or_else(|| {
            ApiError::not_found(
                "netfilter-off",
                "netfilter's connection tracking isn't followed: the configuration says \
                 `enabled = false` under `[netfilter]`",
            )
        })
    }

    fn sockets(&self) -> Result<&Sockets, ApiError> {
        self.sockets.as_ref().ok_or_else(|| {
            ApiError::not_found(
                "sockets-off",
                "sockets aren't followed: the configuration says `enabled = false` under `[sockets]`",
            )
        })
    }

    fn model(&self) -> MutexGuard<'_, Monitor> {
        self.monitor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses parameters that make no sense for these rows.
fn unasked(rows: &str, parameters: &[(&str, bool)]) -> Result<(), ApiError> {
    match parameters.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((name, _)) => {
            Err(ApiError::bad_request(format!("a list of {rows} doesn't take `{name}`")))
        }
    }
}

pub(super) fn parse<T: DeserializeOwned>(args: Value) -> Result<T, ApiError> {
    let args = if args.is_null() { json!({}) } else { args };
    serde_json::from_value(args)
        .map_err(|error| ApiError::bad_request(format!("arguments: {error}")))
}

pub(super) fn done(data: impl Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(data).map_err(|error| ApiError::internal(error.to_string()))
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        let message = error.to_string();
        let details = |details: Result<Value, serde_json::Error>| details.unwrap_or_default();
        match error {
            ControlError::Invalid(found) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "policy-invalid", message)
                    .details(details(serde_json::to_value(found.items)))
            }
            ControlError::Unusable(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "policy-invalid", message).details(json!([])),
            ControlError::Packet(found) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-packet", message)
                    .details(details(serde_json::to_value([found])))
            }
            ControlError::NoSession(_) => Self::not_found("no-such-session", message),
            ControlError::Busy(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message),
            ControlError::NoSuchSet(_) => Self::not_found("no-such-set", message),
            ControlError::Set(error) => sets::refused(&error, message),
            ControlError::Entry(_) | ControlError::List(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-entry", message)
            }
            ControlError::SetFile(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "set-file", message),
            ControlError::NoSuchRule(_) => Self::not_found("no-such-rule", message),
            ControlError::Conflict { generation, base } => Self::new(StatusCode::CONFLICT, "generation-conflict", message)
                .details(json!({"generation": generation, "base_generation": base})),
            ControlError::LockOut { connection, findings } => Self::new(StatusCode::CONFLICT, "lock-out", message)
                .details(json!({"connection": connection, "findings": details(serde_json::to_value(findings))})),
            ControlError::Gate(_) | ControlError::Stopping => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "datapath", message)
            }
            ControlError::File(_) => Self::internal(message),
        }
    }
}
