use rstest::rstest;

use super::*;
use crate::sheet::blob::Blob;
use crate::sheet::kind::Kind;
use crate::sheet::layout::{self, LayoutName};
use crate::sheet::mapping::Rules;
use crate::sheet::source::SourceOptions;
use crate::sheet::times::Zone;
use crate::sheet::wording::Wording;

/// A table and how it is converted.
struct Case<'a> {
    table: &'a str,
    kind: Kind,
    maps: Vec<(String, String)>,
    layout: Option<LayoutName>,
    times: Times,
    defaults: Vec<(&'static str, String)>,
    only_failed: bool,
    ignore_unknown: bool,
}

impl<'a> Case<'a> {
    fn of(table: &'a str) -> Self {
        Self {
            table,
            kind: Kind::Candidates,
            maps: Vec::new(),
            layout: None,
            times: Times::default(),
            defaults: Vec::new(),
            only_failed: false,
            ignore_unknown: false,
        }
    }

    fn map(mut self, column: &str, target: &str) -> Self {
        self.maps.push((column.to_owned(), target.to_owned()));
        self
    }

    /// Returns what is sent, the original rows, and what was done.
    fn run(&self) -> Result<(String, Vec<String>, Converted), String> {
        let files = self.layout.and_then(layout::find).into_iter().collect();
        let rules = Rules {
            kind: self.kind,
            maps: &self.maps,
            ignore: &[],
            ignore_unknown: self.ignore_unknown,
            files,
            choices: None,
            wording: Wording::Options,
        };
        let content = Blob::Memory(self.table.as_bytes().to_vec().into());
        let source = Source::open(content, &SourceOptions::default(), &|cells| rules.count_known(cells))?;
        let (mut header_line, mut header) = (0, Vec::new());
        source.read_rows(&mut |line, cells| {
            (header_line, header) = (line, cells.to_vec());
            Ok(false)
        })?;
        let plan = rules.plan(&header).unwrap();
        let conversion = Conversion {
            source: &source,
            plan: &plan,
            header_line,
            times: &self.times,
            defaults: &self.defaults,
            only_failed: self.only_failed,
            allows_damaged_ids: false,
        };
        let (mut output, mut originals) = (Vec::new(), Vec::new());
        let converted = conversion.run(&mut output, &mut |line, cells| {
            originals.push(format!("{line}: {}", cells.join("|")));
            Ok(())
        })?;
        Ok((String::from_utf8(output).unwrap(), originals, converted))
    }

    fn sent(&self) -> String {
        self.run().unwrap().0
    }
}

#[rstest]
#[case::as_it_is("externalId,email\na,b\n", "externalId,email\na,b\n", false)]
#[case::line_break_at_end("externalId,email\r\na,b", "externalId,email\na,b\n", false)]
#[case::blank_rows("externalId,email\n\na,b\n,\n\" \",\nc,d\n,\n", "externalId,email\n\na,b\n\n\nc,d\n", false)]
#[case::padding("externalId,email,,\na,b,,\nc,d\n", "externalId,email\na,b\nc,d\n", true)]
#[case::blank_surplus("externalId,email\na,b,, \n", "externalId,email\na,b\n", true)]
#[case::semicolons("externalId;email\n1,5;b\n", "externalId,email\n\"1,5\",b\n", false)]
#[case::separator_line("sep=;\nexternalId;email\na;\"x\ny\"\nb;c\n", "\nexternalId,email\na,\"x\ny\"\nb,c\n", false)]
fn rows_stay_on_their_lines(#[case] table: &str, #[case] sent: &str, #[case] has_changed: bool) {
    let (text, _, converted) = Case::of(table).run().unwrap();
    assert_eq!(text, sent);
    assert_eq!(converted.has_changed, has_changed);
    for line in converted.lines {
        let in_sent = sent.lines().nth(usize::try_from(line).unwrap() - 1).unwrap();
        assert!(!in_sent.is_empty(), "{line}");
    }
}

#[rstest]
#[case::too_few("externalId,email\na\n", "externalId,email\na\n")]
#[case::too_many("externalId,name.givenName\na,Lima, Ana\n", "externalId,name.givenName\na,Lima, Ana\n")]
fn rows_that_cannot_be_right_stay_wrong(#[case] table: &str, #[case] sent: &str) {
    assert_eq!(Case::of(table).sent(), sent);
    // Also if the table is converted for another reason.
    let case = Case { defaults: vec![("ifExists", "update".to_owned())], ..Case::of(table) };
    let header = sent.lines().next().unwrap();
    let text = case.sent();
    let row = text.lines().nth(1).unwrap();
    assert_ne!(row.split(',').count(), header.split(',').count() + 1, "{text}");
}

#[test]
fn columns_without_name_must_be_empty() {
    let fault = Case::of("externalId,,email\na,,b\nc,x,d\n").run().err().unwrap();
    assert!(fault.starts_with("line 3 has a value in column B, which has no name"), "{fault}");
    let case = Case { ignore_unknown: true, ..Case::of("externalId,,email\nc,x,d\n") };
    assert_eq!(case.sent(), "externalId,email\nc,d\n");
}

#[test]
fn mapped_columns_are_sent_in_the_order_of_the_table() {
    let case = Case::of("First Name,Team,Nr\nAna,Red,1\nBo,Blue,\n,Green,\n");
    let case = Case { ignore_unknown: true, ..case.map("First Name", "name.givenName").map("Nr", "externalId") };
    let (text, originals, converted) = case.run().unwrap();
    assert_eq!(text, "name.givenName,externalId\nAna,1\nBo,\n");
    assert_eq!(originals, ["2: Ana|Red|1", "3: Bo|Blue|"]);
    assert_eq!((converted.lines, converted.remarks.empty), (vec![2, 3], vec![4]));
}

#[test]
fn a_layout_translates_values_and_leaves_rows_out() {
    let table = "sourcedId,status,enabledUser,givenName,familyName,password\n\
                 1,active,true,Ana,Lima,secret\n2,ToBeDeleted,false,Bo,Ek,\n";
    let case = Case { layout: Some(LayoutName::OneRoster), ..Case::of(table) };
    let (text, originals, converted) = case.run().unwrap();
    assert_eq!(text, "externalId,active,name.givenName,name.familyName,password\n1,true,Ana,Lima,secret\n");
    assert_eq!(originals, ["2: 1|active|true|Ana|Lima"], "without the password");
    assert_eq!(converted.remarks.skipped, [3]);
}

#[test]
fn a_second_header_is_skipped_once() {
    let case = |rows| {
        let table = format!("STATUS,USERID,EMAIL\n{rows}");
        Case { layout: Some(LayoutName::SuccessFactors), ..Case::of(&table) }.sent()
    };
    assert_eq!(
        case("STATUS,USERID,Email Address\nInactive,u1,a@example.com\n"),
        "active,externalId,email\n\nfalse,u1,a@example.com\n"
    );
    assert_eq!(case("active,u1,\nactive,userid,\n"), "active,externalId,email\ntrue,u1,\ntrue,userid,\n");
}

#[test]
fn defaults_fill_empty_cells() {
    let with_default = |table| Case { defaults: vec![("ifExists", "update".to_owned())], ..Case::of(table) };
    assert_eq!(with_default("externalId\na\n").sent(), "externalId,ifExists\na,update\n");
    let (text, _, converted) = with_default("externalId,ifExists\na,\nb,fail\n").run().unwrap();
    assert_eq!(text, "externalId,ifExists\na,update\nb,fail\n");
    assert!(converted.has_changed);
}

#[test]
fn a_result_is_read_back_to_the_same_values() {
    let table = "externalId,result.line,result.outcome\n'+49,2,applied\n'-7,3,not_applied\n";
    let (text, originals, _) = Case::of(table).run().unwrap();
    assert_eq!(text, "externalId\n+49\n-7\n");
    assert_eq!(originals, ["2: +49", "3: -7"]);
    let case = Case { only_failed: true, ..Case::of(table) };
    let (text, _, converted) = case.run().unwrap();
    assert_eq!(text, "externalId\n\n-7\n");
    assert_eq!(converted.remarks.applied, [2]);
}

#[test]
fn local_times_are_converted_or_remarked() {
    let table = "candidate.externalId,assessment,validUntil\n1,a,03/05/2027\n2,a,2027-05-03\n3,a,2027-05-03 18:00\n\
                 4,a,9999-12-31T23:59:59Z\n";
    let case = |times| Case { kind: Kind::Assignments, times, ..Case::of(table) };
    let (text, _, converted) = case(Times::default()).run().unwrap();
    assert_eq!(text, table);
    assert_eq!(converted.remarks.needs_format, [2]);
    assert_eq!(converted.remarks.needs_zone, [3, 4]);
    let times = Times { zone: Some(Zone::parse("+02:00").unwrap()), format: None };
    let text = case(times).sent();
    assert!(text.contains("1,a,03/05/2027\n2,a,2027-05-03T21:59:59Z\n3,a,2027-05-03T16:00:00Z\n4,a,9999-"), "{text}");
}
