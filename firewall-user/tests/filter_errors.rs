//! What somebody reads when a filter is wrong: each line of `filter_mistakes.txt` and its report.

use firewall_user::filter;
use firewall_user::view::{EventView, FlowView, RuleView};

#[test]
fn each_mistake_has_a_good_report() {
    let mut report = String::new();
    for line in include_str!("filter_mistakes.txt").lines() {
        match filter::parse_for::<FlowView>(line) {
            Ok(_) => panic!("`{line}`: no mistake was found"),
            Err(error) => report.push_str(&format!("{}\n", error.render())),
        }
    }
    insta::assert_snapshot!(report);
}

#[test]
fn fields_are_those_of_the_rows() {
    let errors = [
        filter::parse_for::<FlowView>("proto=tcp and reason=rule").unwrap_err(),
        filter::parse_for::<EventView>("state=closed").unwrap_err(),
        filter::parse_for::<RuleView>("hits>1 and port=22").unwrap_err(),
        filter::parse_for::<RuleView>("hist>1").unwrap_err(),
        filter::parse("prt=22").unwrap_err(),
    ];
    let report: Vec<String> = errors.iter().map(|e| e.render()).collect();
    insta::assert_snapshot!(report.join("\n"));
}
