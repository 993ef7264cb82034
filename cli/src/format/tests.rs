//! What docker's command line answered to the same templates (28.2).

use serde_json::Value;
use serde_json::json;

use super::*;

fn value() -> Value {
    json!({
        "name": "/c1", "env": ["A=1", "B=2"], "n": 5, "f": 1.5, "labels": {"b": "2", "a": "1"}, "t": true, "nul": null,
        "empty": [], "s": "héllo wörld", "nested": [{"k": "x"}, {"k": "y"}]
    })
}

/// Works out on bare JSON, with `$d` for the value.
fn bare(source: &str) -> String {
    let rules = Rules {
        type_name: "object",
        missing_fails: false,
        has_optional: false,
        keeps_headings: false,
    };
    let data = Data::of(&value(), Objects::Maps);
    let source = format!("{{{{$d := .}}}}{source}");
    match Template::parse(&source).and_then(|template| template.evaluate(&data, rules)) {
        Ok(text) => text,
        Err(error) => error.0,
    }
}

#[track_caller]
fn all(cases: &[(&str, &str)]) {
    for (source, text) in cases {
        assert_eq!(&bare(source), text, "{source}");
    }
}

#[test]
fn values_are_shown_as_go_shows_them() {
    all(&[
        (
            "{{$d}}",
            "map[empty:[] env:[A=1 B=2] f:1.5 labels:map[a:1 b:2] n:5 name:/c1 nested:[map[k:x] map[k:y]] nul:<nil> s:héllo wörld t:true]",
        ),
        ("{{$d.nope}}", "<no value>"),
        ("{{$d.nul}}", "<no value>"),
        ("{{$d.nope.x}}", "<no value>"),
        ("{{$d.env}}", "[A=1 B=2]"),
        ("{{json $d.env}}", r#"["A=1","B=2"]"#),
        ("{{$d.nested}}", "[map[k:x] map[k:y]]"),
        (
            "{{json 1.5}} {{json \"a<b\"}} {{json nil}}",
            r#"1.5 "a<b" null"#,
        ),
        (
            "{{1e3}} {{0x1F}} {{1_000}} {{-5}} {{+3}} {{'x'}}",
            "1000 31 1000 -5 3 120",
        ),
        ("{{\"a\\tb\"}}{{`raw\\t`}}\\t|", "a\tbraw\\t\\t|"),
    ]);
}

#[test]
fn actions_control_what_is_shown() {
    all(&[
        (
            "{{range $i, $e := $d.env}}{{if $i}},{{end}}{{$e}}{{end}}",
            "A=1,B=2",
        ),
        (
            "{{range $k, $v := $d.labels}}{{$k}}={{$v}} {{end}}",
            "a=1 b=2 ",
        ),
        ("{{range $d.empty}}x{{else}}none{{end}}", "none"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        (
            "{{range $e := $d.env}}{{if eq $e \"B=2\"}}{{break}}{{end}}{{$e}}{{end}}",
            "A=1",
        ),
        ("{{range $d.env}}{{continue}}x{{end}}", ""),
        ("{{with $d.nope}}x{{else}}none{{end}}", "none"),
        (
            "{{with $x := $d.labels}}{{.a}}{{$x.b}}{{$.name}}{{end}}",
            "12/c1",
        ),
        (
            "{{if true}}a{{else if false}}b{{else}}c{{end}}{{with 0}}x{{else with 1}}y{{.}}{{end}}",
            "ay1",
        ),
        ("{{if and $d.t (gt (len $d.env) 1)}}yes{{end}}", "yes"),
        ("{{$x := 3}}{{$x = 4}}{{$x}}", "4"),
        ("a {{- 3 -}} b", "a3b"),
        ("x {{-  \"a\"  -}}  y", "xay"),
        ("{{-3}}{{- 3}}", "-33"),
        ("{{/* c */}}x{{/* a */ -}}   x", "xx"),
        ("{{.name | printf \"%s-%s\" \"x\" | upper}}", "X-/C1"),
        ("{{.name|}}", "/c1"),
        ("{{(index $d.nested 0).k}}", "x"),
    ]);
}

#[test]
fn functions_do_what_gos_and_dockers_do() {
    all(&[
        (
            "{{index $d.labels \"a\"}}{{index $d \"labels\" \"a\"}}{{index $d.env 0 0}}",
            "1165",
        ),
        ("{{len $d.env}} {{len $d.s}} {{len $d}}", "2 13 10"),
        ("{{slice $d.s 1 4}} {{slice $d.env 1}}", "él [B=2]"),
        (
            "{{title $d.s}} {{upper $d.s}} {{truncate $d.s 4}} {{pad $d.name 2 3}}|{{split \"a,b\" \",\"}}|{{println 1 2 \"x\"}}{{print 1 2 \"x\" \"y\" 3 4}}",
            "Héllo Wörld HÉLLO WÖRLD hél   /c1   |[a b]|1 2 x\n1 2xy3 4",
        ),
        ("{{title \"ab-cd ef_gh x1y\"}}", "Ab-Cd Ef_gh X1y"),
        (
            "{{split \"abc\" \"\"}} {{join (split \"a b\" \" \") \"-\"}}{{join $d.nope \",\"}}",
            "[a b c] a-b",
        ),
        (
            "{{lt 1 2}} {{and 1 0 2}} {{or 0 \"\" 3}} {{not 0}} {{or $d.nope \"dflt\"}}",
            "true 0 3 true dflt",
        ),
        (
            "{{ne 1 2}}{{le 1 1}}{{ge 1 2}}{{eq true true}}{{eq nil nil}}{{eq $d.nul nil}}",
            "truetruefalsetruetruetrue",
        ),
        (
            "{{eq $d.name \"/c1\" \"x\"}}{{eq 1 2 | not}}{{ge $d.f 1.5}}",
            "truetruetrue",
        ),
        (
            "{{not $d.empty}}{{not $d.labels}}{{not $d.nul}}",
            "truefalsetrue",
        ),
        (
            "{{html \"<a>\"}} {{urlquery \"a b\"}} {{js \"it's\"}} {{html 3}}",
            "&lt;a&gt; a+b it\\'s 3",
        ),
        (
            "{{print nil}}{{print true 1.0 2.5}}{{1.0}}{{1e100}}",
            "<nil>true 1 2.511e+100",
        ),
        (
            "{{\"x\" | index $d.labels}}{{$d.labels.a | upper | printf \"<%s>\"}}",
            "<1>",
        ),
    ]);
}

#[test]
fn printf_writes_as_gos() {
    all(&[
        (
            "{{printf \"%s|%5d|%q|%v|%x|%T|%-8s|%08.3f|%t\" $d.name 42 $d.name $d.env \"hi\" 3 \"a\" 3.14159 true}}",
            "/c1|   42|\"/c1\"|[A=1 B=2]|6869|int|a       |0003.142|true",
        ),
        (
            "{{printf \"%d\" \"a\"}}{{printf \"%s\" 3}}{{printf \"%d\"}}{{printf \"x\" 1}}",
            "%!d(string=a)%!s(int=3)%!d(MISSING)x%!(EXTRA int=1)",
        ),
        (
            "{{printf \"%6.2f%%|%x|%X|%c|%U|%e|%g|%+d|%o|%b|%v|%+v|%#v\" 3.14159 255 255 65 65 1.5 1e21 5 8 5 nil \"a\" \"a\"}}",
            "  3.14%|ff|FF|A|U+0041|1.500000e+00|1e+21|+5|10|101|<nil>|a|\"a\"",
        ),
        (
            "{{printf \"%5t|%.2s|%-5d|%*d\" true \"héllo\" 3 4 5}}",
            " true|hé|3    |   5",
        ),
        (
            "{{printf \"%[2]s %[1]s\" \"a\" \"b\"}}{{printf \"%\"}}",
            "b a%!(NOVERB)",
        ),
        (
            "{{printf \"%v %s\" $d.labels $d.nope}}{{printf \"%s\" $d.t}}",
            "map[a:1 b:2] %!s(<nil>)%!s(bool=true)",
        ),
    ]);
}

#[test]
fn a_template_that_cannot_be_parsed_is_refused_in_gos_words() {
    all(&[
        ("{{.A .B", "template: :1: unclosed action"),
        ("{{end}}", "template: :1: unexpected {{end}}"),
        ("{{else}}", "template: :1: unexpected {{else}}"),
        ("{{if}}x{{end}}", "template: :1: missing value for if"),
        ("{{if true}}", "template: :1: unexpected EOF"),
        ("{{$x}}", "template: :1: undefined variable \"$x\""),
        (
            "{{if $y := 3}}{{$y}}{{end}}{{$y}}",
            "template: :1: undefined variable \"$y\"",
        ),
        ("{{Nope .}}", "template: :1: function \"Nope\" not defined"),
        (
            "{{3 | 4}}",
            "template: :1: non executable command in pipeline stage 2",
        ),
        ("{{break}}", "template: :1: {{break}} outside {{range}}"),
        ("{{\"abc}}", "template: :1: unterminated quoted string"),
        ("{{(1}}", "template: :1: unclosed left paren"),
        ("{{1)}}", "template: :1: unexpected right paren"),
        ("{{|}}", "template: :1: unexpected \"|\" in command"),
        ("{{3x}}", "template: :1: bad number syntax: \"3x\""),
        ("{{.Name.}}", "template: :1: unexpected <.> in operand"),
        ("{{..}}", "template: :1: unexpected <.> in operand"),
        ("{{.a-b}}", "template: :1: bad character U+002D '-'"),
        ("{{@}}", "template: :1: unexpected \"@\" in command"),
        (
            "{{'ab'}}",
            "template: :1: malformed character constant: 'ab'",
        ),
        ("{{`a", "template: :1: unterminated raw quoted string"),
        ("{{/* x }}", "template: :1: unclosed comment"),
        (
            "{{/* x */ y}}",
            "template: :1: comment ends before closing delimiter",
        ),
        (
            "{{if true}}{{else}}{{else}}{{end}}",
            "template: :1: expected end; found {{else}}",
        ),
        (
            "{{().x}}",
            "template: :1: missing value for parenthesized pipeline",
        ),
        ("{{nil.x}}", "template: :1: unexpected . after term \"nil\""),
        (
            "{{\"abc\".x}}",
            "template: :1: unexpected . after term \"\\\"abc\\\"\"",
        ),
        (
            "{{range $a,$b,$c := .}}{{end}}",
            "template: :1: too many declarations in range",
        ),
        (
            "{{$a, $b := .}}",
            "template: :1: too many declarations in command",
        ),
    ]);
}

#[test]
fn a_template_that_fails_says_where() {
    let at = |column: usize, rest: &str| {
        format!(
            "template: :1:{}: executing \"\" at {rest}",
            column + "{{$d := .}}".len()
        )
    };
    for (source, text) in [
        (
            "{{$d.name.foo}}",
            at(
                4,
                "<$d.name.foo>: can't evaluate field foo in type interface {}",
            ),
        ),
        (
            "{{$d.nul.x}}",
            at(4, "<$d.nul.x>: nil pointer evaluating interface {}.x"),
        ),
        (
            "{{index $d.env 5}}",
            at(
                2,
                "<index $d.env 5>: error calling index: index out of range: 5",
            ),
        ),
        (
            "{{index $d.env \"a\"}}",
            at(
                2,
                "<index $d.env \"a\">: error calling index: cannot index slice/array with type string",
            ),
        ),
        (
            "{{index 3 1}}",
            at(
                2,
                "<index 3 1>: error calling index: can't index item of type int",
            ),
        ),
        (
            "{{len 3}}",
            at(2, "<len 3>: error calling len: len of type int"),
        ),
        (
            "{{len (1)}}",
            at(2, "<len (1)>: error calling len: len of type int"),
        ),
        ("{{upper 1}}", at(8, "<1>: expected string; found 1")),
        (
            "{{upper $d.f}}",
            at(
                10,
                "<$d.f>: wrong type for value; expected string; got float64",
            ),
        ),
        (
            "{{upper $d.nope}}",
            at(10, "<$d.nope>: invalid value; expected string"),
        ),
        (
            "{{upper}}",
            at(2, "<upper>: wrong number of args for upper: want 1 got 0"),
        ),
        (
            "{{and}}",
            at(
                2,
                "<and>: wrong number of args for and: want at least 1 got 0",
            ),
        ),
        (
            "{{eq \"a\" 1}}",
            at(
                2,
                "<eq \"a\" 1>: error calling eq: incompatible types for comparison",
            ),
        ),
        (
            "{{eq 1}}",
            at(
                2,
                "<eq 1>: error calling eq: missing argument for comparison",
            ),
        ),
        (
            "{{range $d.name}}{{end}}",
            at(10, "<$d.name>: range can't iterate over /c1"),
        ),
        ("{{nil}}", at(2, "<nil>: nil is not a command")),
        (
            "{{1 2}}",
            at(2, "<1>: can't give argument to non-function 1"),
        ),
        (
            "{{.name 3}}",
            at(
                2,
                "<.name>: name has arguments but cannot be invoked as function",
            ),
        ),
    ] {
        assert_eq!(bare(source), text, "{source}");
    }
}

fn inspected(format: Option<&str>, found: &[Value]) -> Result<String, TemplateError> {
    let mut shown = Inspected::new(format)?;
    for value in found {
        shown.add(value.clone())?;
    }
    Ok(shown.text())
}

#[test]
fn inspect_refuses_a_field_that_is_nowhere_in_dockers_words() {
    let error = inspected(Some("{{.Nope}}"), &[json!({"Id": "x"})]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "template parsing error: template: :1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\""
    );
    let error = inspected(Some("{{.State.Nope}}"), &[json!({"State": {}})]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "template parsing error: template: :1:8: executing \"\" at <.State.Nope>: map has no entry for key \"Nope\""
    );
}

#[test]
fn inspect_takes_a_label_that_is_not_there_for_nothing() {
    let container =
        json!({"Config": {"Labels": {"a": "1"}, "Cmd": null}, "HostConfig": {"PidsLimit": null}});
    for (source, text) in [
        ("{{.Config.Labels.a}}", "1\n"),
        ("{{.Config.Labels.b}}", "<no value>\n"),
        ("{{index .Config.Labels \"b\"}}", "\n"),
        ("{{.Config.Cmd}}", "[]\n"),
        ("{{.HostConfig.PidsLimit}}", "<nil>\n"),
        ("{{len .Config.Cmd}}", "0\n"),
    ] {
        assert_eq!(
            inspected(Some(source), std::slice::from_ref(&container)).unwrap(),
            text
        );
    }
}

#[test]
fn inspect_shows_json_indented_or_on_a_line() {
    let found = [json!({"b": 1, "a": []})];
    assert_eq!(
        inspected(Some("json"), &found).unwrap(),
        "[{\"b\":1,\"a\":[]}]\n"
    );
    let lines = "[\n    {\n        \"b\": 1,\n        \"a\": []\n    }\n]\n";
    assert_eq!(inspected(None, &found).unwrap(), lines);
    assert_eq!(inspected(None, &[]).unwrap(), "[]\n");
}

const LISTING: Listing<'_> = Listing {
    row: "context",
    table: "{{.Name}}\t{{.Description}}",
    headings: &[("Name", "NAME"), ("Description", "DESCRIPTION")],
};

#[test]
fn a_list_is_a_table_lines_of_json_or_a_template() {
    let rows = [
        json!({"Description": "the first", "Name": "one", "Label()": {"a.b-c": "x"}}),
        json!({"Description": "", "Name": "second-name", "Label()": {}}),
    ];
    for (format, text) in [
        (
            None,
            "NAME          DESCRIPTION\none           the first\nsecond-name   \n",
        ),
        (
            Some("table"),
            "NAME          DESCRIPTION\none           the first\nsecond-name   \n",
        ),
        (
            Some("table {{upper .Name}}\\t{{.Description}}"),
            "NAME          DESCRIPTION\nONE           the first\nSECOND-NAME   \n",
        ),
        (Some("table {{.Name}}"), "NAME\none\nsecond-name\n"),
        (
            Some("{{.Name}}\\t{{.Label \"a.b-c\"}}"),
            "one\tx\nsecond-name\t\n",
        ),
        (
            Some("json"),
            "{\"Description\":\"the first\",\"Name\":\"one\"}\n{\"Description\":\"\",\"Name\":\"second-name\"}\n",
        ),
        (Some(" x{{.Name}} "), "xone\nxsecond-name\n"),
    ] {
        assert_eq!(LISTING.write(format, &rows).unwrap(), text, "{format:?}");
    }
    let error = LISTING.write(Some("{{.Nope}}"), &rows).unwrap_err();
    assert_eq!(
        error.to_string(),
        "template parsing error: template: :1:2: executing \"\" at <.Nope>: can't evaluate field Nope in type context"
    );
}

#[test]
fn a_name_with_a_newline_does_not_break_a_table() {
    let rows = [json!({"Description": "a\tb", "Name": "x\ny"})];
    assert_eq!(
        LISTING.write(None, &rows).unwrap(),
        "NAME      DESCRIPTION\nx\\ny      a\\tb\n"
    );
}

proptest::proptest! {
    #[test]
    fn no_template_panics(source in r#"(\{\{-? ?|-?\}\}| |\$d|\$x|:=|=|,|\||\.[a-z]{1,3}|\.|if|else|range|end|with|nil|true|[0-9]{1,3}|"a"|`b`|'c'|\(|\)|index|printf|slice|len|eq|and|pad|truncate|%|é|-|/\*|\*/){0,24}"#) {
        bare(&source);
        let _ = LISTING.write(Some(&source), &[value()]);
    }

    #[test]
    fn text_without_actions_stays_as_it_is(text in "[^{\\\\]{0,40}") {
        let rendered = Template::parse(&text).unwrap().render(&value()).unwrap();
        proptest::prop_assert_eq!(rendered, text);
    }
}
