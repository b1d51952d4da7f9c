use rstest::rstest;

use super::*;
use crate::sheet::layout::LayoutName;

fn names(header: &str) -> Vec<String> {
    header.split(',').map(str::to_owned).collect()
}

fn pair(column: &str, target: &str) -> (String, String) {
    (column.to_owned(), target.to_owned())
}

const NOTHING: Rules<'static> = Rules {
    kind: Kind::Candidates,
    maps: &[],
    ignore: &[],
    ignore_unknown: false,
    files: Vec::new(),
    choices: None,
    wording: Wording::Options,
};

fn sent(plan: &Plan<'_>) -> Vec<(String, Vec<usize>)> {
    plan.targets.iter().map(|target| (target.name.clone(), target.sources.clone())).collect()
}

fn faults(rules: &Rules<'_>, header: &str) -> Vec<String> {
    rules.plan(&names(header)).err().unwrap()
}

#[test]
fn known_columns_are_sent_as_they_are() {
    let plan = NOTHING.plan(&names("externalId, email ,custom.Cost Centre")).unwrap();
    assert!(plan.is_identity && plan.left_out.is_empty());
    assert_eq!(plan.shown, [0, 1, 2]);
    let plan = NOTHING.plan(&names("externalId,,email,,")).unwrap();
    assert!(!plan.is_identity);
    assert_eq!(plan.unnamed, [1, 3, 4]);
    assert_eq!(sent(&plan), [("externalId".to_owned(), vec![0]), ("email".to_owned(), vec![2])]);
}

#[test]
fn unknown_columns_are_listed_with_their_cures() {
    let found = faults(&NOTHING, "First Name,Cost Centre,email");
    assert_eq!(
        found,
        [
            "column A \"First Name\" is unknown (did you mean name.givenName?)",
            "column B \"Cost Centre\" is unknown",
            "send a column with --map \"First Name=name.givenName\", leave one out with --ignore \"First Name\", or \
             leave out all unknown ones with --ignore-unknown",
        ]
    );
    let found = faults(&NOTHING, "username,password,firstname,lastname,email,idnumber,cohort1");
    assert!(found.last().unwrap().ends_with("try --layout moodle"), "{found:?}");
}

#[test]
fn columns_are_mapped_ignored_and_left_out() {
    let maps = [pair("first name", "name.givenName"), pair("Nr.", "externalId")];
    let ignore = ["Cost Centre".to_owned()];
    let rules = Rules { maps: &maps, ignore: &ignore, ignore_unknown: true, ..NOTHING };
    let plan = rules.plan(&names("Nr.,FirstName,cost centre,emial,password")).unwrap();
    let expected = [("externalId", 0), ("name.givenName", 1), ("password", 4)];
    assert_eq!(sent(&plan), expected.map(|(name, position)| (name.to_owned(), vec![position])));
    assert_eq!(plan.left_out, ["cost centre", "emial (did you mean email?)"]);
    assert_eq!(plan.shown, [0, 1, 2, 3], "a password is not repeated");
}

#[test]
fn two_columns_of_one_target_are_an_error_unless_one_is_the_users_choice() {
    let found = faults(&NOTHING, "email,externalId,email");
    assert_eq!(
        found,
        ["column A \"email\" and column C \"email\" are both sent as email; leave one out with --ignore"]
    );
    let maps = [pair("Private", "email")];
    let rules = Rules { maps: &maps, ..NOTHING };
    let plan = rules.plan(&names("email,externalId,Private")).unwrap();
    assert_eq!(sent(&plan), [("externalId".to_owned(), vec![1]), ("email".to_owned(), vec![2])]);
    assert_eq!(plan.left_out, ["email"]);
}

#[test]
fn the_first_address_that_is_not_empty_counts_where_a_layout_says_so() {
    let rules = Rules { files: vec![layout::find(LayoutName::BambooHr).unwrap()], ..NOTHING };
    let plan = rules.plan(&names("Employee #,Home Email,First Name,Work Email,Shoe Size")).unwrap();
    let email = plan.targets.iter().find(|target| target.name == "email").unwrap();
    assert_eq!(email.sources, [3, 1], "in the order of the layout");
    assert_eq!(plan.left_out, ["Shoe Size"]);
}

#[rstest]
#[case::unknown_target("Name", "name.first", "--map \"Name=name.first\": \"name.first\" is no column of candidates")]
#[case::other_kind("Name", "assessment", "\"assessment\" is no column of candidates")]
fn targets_must_exist(#[case] column: &str, #[case] target: &str, #[case] message: &str) {
    let maps = [pair(column, target)];
    let found = Rules { maps: &maps, ..NOTHING }.check();
    assert!(found.len() == 1 && found[0].contains(message), "{found:?}");
}

#[test]
fn a_mapped_column_must_be_in_the_table() {
    let maps = [pair("Frist Name", "name.givenName")];
    let found = faults(&Rules { maps: &maps, ignore_unknown: true, ..NOTHING }, "externalId,First Name");
    assert_eq!(found, ["--map: the table has no column \"Frist Name\" (did you mean First Name?)"]);
    let twice = [pair("A", "email"), pair("a", "externalId")];
    assert_eq!(Rules { maps: &twice, ..NOTHING }.check(), ["--map: \"a\" is mapped twice"]);
}

#[test]
fn layouts_are_for_candidates() {
    let files = vec![layout::find(LayoutName::Moodle).unwrap()];
    let found = Rules { kind: Kind::Assignments, files, ..NOTHING }.check();
    assert_eq!(found, ["--layout moodle is for candidates, not for assignments; omit it and use --map"]);
}

#[test]
fn a_result_is_recognised() {
    let plan = NOTHING.plan(&names("externalId,result.line,result.outcome,result.new")).unwrap();
    assert!(plan.is_result && !plan.is_identity && plan.left_out.is_empty());
    assert_eq!((plan.outcome, plan.shown), (Some(2), vec![0]));
    assert!(faults(&NOTHING, "externalId,result.other")[0].contains("result.other"));
}

#[test]
fn columns_have_letters() {
    for (position, letters) in [(0, "A"), (25, "Z"), (26, "AA"), (701, "ZZ"), (702, "AAA")] {
        assert_eq!(column_letters(position), letters);
    }
}

#[test]
fn a_form_decides_by_position_and_a_layout_keeps_its_values() {
    let header = names("Login,Login,Notes,");
    let choices = [Some("userName".to_owned()), Some("externalId".to_owned()), None, Some("email".to_owned())];
    let rules = Rules { choices: Some(&choices), wording: Wording::Form, ignore_unknown: true, ..NOTHING };
    let plan = rules.plan(&header).unwrap();
    let expected = [("userName", 0), ("externalId", 1), ("email", 3)].map(|(name, at)| (name.to_owned(), vec![at]));
    assert_eq!(sent(&plan), expected);
    assert_eq!(plan.left_out, ["Notes"]);
    let both = [Some("email".to_owned()), Some("email".to_owned()), None, None];
    let fault = Rules { choices: Some(&both), wording: Wording::Form, ..NOTHING }.plan(&header).err().unwrap();
    assert_eq!(fault, ["column A \"Login\" and column B \"Login\" are both sent as email; leave one out"]);
    let none = [None, None, None, None];
    let fault = Rules { choices: Some(&none), wording: Wording::Form, ..NOTHING }.plan(&header).err().unwrap();
    assert_eq!(fault, ["no column is sent; choose a field for at least one"]);
    let moodle = layout::find(LayoutName::Moodle).unwrap();
    let (target, column) = moodle
        .values
        .keys()
        .find_map(|target| Some((target.clone(), moodle.columns.get(target)?.as_slice().first()?.clone())))
        .unwrap();
    let choices = [Some(target)];
    let rules = Rules { choices: Some(&choices), files: vec![moodle], ..NOTHING };
    assert!(!rules.plan(&[column]).unwrap().targets[0].values.is_empty(), "what its values mean is kept");
}

#[test]
fn columns_are_proposed_by_name_and_guessed_by_usual_names() {
    let proposed = ["email", "First Name", "Phone", "Notes", ""].map(|name| NOTHING.propose(name));
    let expected = [
        Proposal::Known("email".to_owned()),
        Proposal::Guessed("name.givenName".to_owned()),
        Proposal::LeaveOut,
        Proposal::LeaveOut,
        Proposal::LeaveOut,
    ];
    assert_eq!(proposed, expected);
}
