//! Rules by owner: the call's part as any rule's, and one row more for each of five fields of who calls.
//!
//! Which users, files and cgroups names stand for is the machine's affair: whoever installs the rules finds out, and
//! asks [`OwnerRules::row`] for the row of each.

use super::super::ast::{Match, OwnerMatch, Policy, Rule};
use super::super::resolved::Resolved;
use super::super::slots::Slots;
use super::gates::Gates;
use super::small::{Bits, Pool, addresses, ports, small_fields};
use super::{Ask, CompileError, Part, action, settings};
use firewall_common::abi::{
    owner::{OWNER_FIELDS, OWNER_INCOMING, OWNER_PLACES, OwnerField, OwnerTable},
    small::{MAX_ROWS, SMALL_RULES},
    table::{Direction, MAX_CONTINUES},
};
use std::collections::BTreeSet;

/// TCP, UDP: judged as they are called.
const CALLED: [u8; 2] = [6, 17];

/// A policy's rules by owner, but for who is meant.
pub struct OwnerRules {
    table: Box<OwnerTable>,
    pool: Pool,
    owners: Vec<OwnerMatch>,
    others: bool,
}

impl std::fmt::Debug for OwnerRules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnerRules").field("owners", &self.owners).finish_non_exhaustive()
    }
}

const fn asked(owner: &OwnerMatch, field: OwnerField) -> Option<&Match<String>> {
    match field {
        OwnerField::User => owner.users.as_ref(),
        OwnerField::Exe => owner.exes.as_ref(),
        OwnerField::Process => owner.processes.as_ref(),
        OwnerField::Unit => owner.units.as_ref(),
        OwnerField::Cgroup => owner.cgroups.as_ref(),
    }
}

impl OwnerRules {
    /// What rules say of a field, each once.
    pub fn names(&self, field: OwnerField) -> BTreeSet<String> {
        let lists = self.owners.iter().filter_map(|owner| asked(owner, field));
        lists.flat_map(|list| &list.items).map(|item| item.value.clone()).collect()
    }

    /// The row of an owner to whom `fits` says which names of a field belong.
    pub fn row(&mut self, field: OwnerField, fits: &dyn Fn(&str) -> bool) -> u16 {
        let mut bits = Bits::default();
        for (i, owner) in self.owners.iter().enumerate() {
            let meets = asked(owner, field)
                .is_none_or(|list| list.items.iter().any(|item| fits(&item.value)) != list.negated);
            if meets {
                bits.set(i);
            }
        }
        self.pool.intern(&bits)
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.pool.len()
    }

    /// Whether rules may be met by what neither TCP nor UDP sends: that is seen as packets only.
    pub const fn others(&self) -> bool {
        self.others
    }

    /// The table, with every row that was asked for.
    ///
    /// # Errors
    /// There are too many rows.
    pub fn table(&self) -> Result<Box<OwnerTable>, CompileError> {
        CompileError::check(Part::Rows, self.pool.len(), MAX_ROWS)?;
        let mut table: Box<OwnerTable> = bytemuck::zeroed_box();
        bytemuck::bytes_of_mut(&mut *table).copy_from_slice(bytemuck::bytes_of(&*self.table));
        self.pool.write(&mut table.rules.rows);
        Ok(table)
    }
}

/// Compiles the rules by owner; `None`: there are none.
pub(super) fn compile(
    policy: &Policy,
    resolved: &Resolved,
    slots: &Slots,
) -> Result<Option<OwnerRules>, CompileError> {
    let enabled: Vec<&Rule> = policy.owner_rules().collect();
    if enabled.is_empty() {
        return Ok(None);
    }
    CompileError::check(Part::Rules, enabled.len(), SMALL_RULES)?;
    let counting = enabled.iter().filter(|r| !r.action.is_terminal()).count();
    CompileError::check(Part::CountRules, counting, MAX_CONTINUES)?;
    let mut table: Box<OwnerTable> = bytemuck::zeroed_box();
    let rules = &mut table.rules;
    settings(policy, &enabled, &mut rules.settings);
    // They ask no live sets.
    let gates = Gates::default();
    for (to, rule) in rules.actions.iter_mut().zip(&enabled) {
        *to = action(rule, &gates, slots);
    }
    let asks: Vec<Ask<'_>> = enabled
        .iter()
        .enumerate()
        .map(|(bit, rule)| Ask::new(bit, &rule.when, &gates, resolved, slots))
        .collect();
    let mut pool = Pool::new(0..enabled.len());
    small_fields(&asks, rules, &mut pool);
    ports(&asks, resolved, rules, &mut pool);
    addresses(&asks, resolved, rules, &mut pool)?;
    let out = |rule: &&Rule| rule.when.direction != Some(Direction::In);
    let any_other = |rule: &&Rule| {
        let protos = rule.when.protos.as_ref();
        protos.is_none_or(|protos| protos.iter().any(|proto| !CALLED.contains(proto)))
    };
    let others = enabled.iter().any(|rule| out(rule) && any_other(rule));
    if enabled.iter().any(|rule| rule.when.direction != Some(Direction::Out)) {
        table.flags |= OWNER_INCOMING;
    }
    let owners: Vec<OwnerMatch> = enabled.iter().map(|rule| rule.when.owner.clone()).collect();
    if owners.iter().any(|owner| owner.units.is_some() || owner.cgroups.is_some()) {
        table.flags |= OWNER_PLACES;
    }
    let mut this = OwnerRules { table, pool, owners, others };
    let fields: [OwnerField; OWNER_FIELDS] = [
        OwnerField::User,
        OwnerField::Exe,
        OwnerField::Process,
        OwnerField::Unit,
        OwnerField::Cgroup,
    ];
    for field in fields {
        this.table.unlisted[field as usize] = this.row(field, &|_| false);
    }
    Ok(Some(this))
}

#[cfg(test)]
mod tests {
    use super::super::super::{Slots, compile, parse};
    use super::*;

    fn rules(text: &str) -> OwnerRules {
        let policy = parse(text, "test").expect("a policy");
        let compiled = compile(&policy, &mut Slots::new(), 1).expect("small");
        compiled.owners.expect("rules by owner")
    }

    #[test]
    fn an_owner_is_of_every_rule_that_names_or_ignores_it() {
        let mut rules = rules(
            "rule a reject out tcp process { curl, wget }\n\
             rule packets drop in tcp to port 80\n\
             rule b allow in exe /usr/sbin/nginx\n\
             rule c drop process not curl unit nginx",
        );
        assert!(rules.others(), "c is about every protocol");
        assert_eq!(rules.names(OwnerField::Process), ["curl", "wget"].map(String::from).into());
        assert_eq!(rules.names(OwnerField::Unit), ["nginx.service".to_owned()].into());
        let curl = rules.row(OwnerField::Process, &|name| name == "curl");
        let other = rules.row(OwnerField::Process, &|_| false);
        let nginx = rules.row(OwnerField::Unit, &|name| name == "nginx.service");
        let table = rules.table().expect("few rows");
        let bits = |row: u16| table.rules.rows[usize::from(row)][0];
        assert_eq!((bits(curl), bits(other), bits(nginx)), (0b011, 0b110, 0b111));
        assert_eq!(table.unlisted[OwnerField::Process as usize], other);
        assert_eq!(table.flags, OWNER_INCOMING | OWNER_PLACES);
    }

    #[test]
    fn any_owner_is_everybody() {
        let mut rules = rules("rule a drop out tcp to 10.0.0.1 process any");
        let table = rules.table().expect("few rows");
        assert_eq!(table.rules.rows[usize::from(table.unlisted[2])][0], 1);
        assert!(!rules.others());
        assert_eq!(table.flags, 0);
        assert_eq!(rules.row(OwnerField::Process, &|_| true), table.unlisted[2]);
    }

    #[test]
    fn packets_are_not_judged_by_them() {
        let policy = parse("rule a drop out tcp user root", "test").expect("a policy");
        let compiled = compile(&policy, &mut Slots::new(), 1).expect("small");
        assert_eq!(compiled.table.settings.words, 0);
        assert_eq!(compiled.rules.len(), 1, "it is listed and counted as any rule");
    }
}
