//! What expressions come to, what they are refused for, what they cost.

use kubernetes_cel::types::Type;
use kubernetes_cel::value::Value;
use kubernetes_cel::{CALL_COST_MAX, Env, Program};
use serde_json::{Value as Json, json};

fn env() -> Env {
    Env::new(&[("o", Type::Dyn)])
}

fn object() -> Json {
    json!({"i": 3, "d": 1.5, "s": "héllo", "l": [1, 2, 3], "m": {"a": 1, "b": 2}, "n": null, "e": [], "names": ["b", "a"]})
}

/// The value of an expression as text, or its error.
fn run(source: &str) -> String {
    let program = match Program::compile(source, &env()) {
        Ok(program) => program,
        Err(issues) => return format!("refused: {}", issues.list[0].message),
    };
    let object = object();
    let values = [Value::untyped(&object)];
    match program.run(values.as_slice(), CALL_COST_MAX).result {
        Ok(Value::Bool(b)) => b.to_string(),
        Ok(value) => value.to_json().map_or_else(|| format!("{:?}", value.type_of()), |json| json.to_string()),
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn true_things_are_true() {
    for source in [
        // Operators and numbers of several types.
        "1 + 2 * 3 - 4 / 2 == 5 && 7 % 4 == 3 && -7 / 2 == -3",
        "1.0 + 0.5 == 1.5 && 2u * 3u == 6u",
        "1 < 2u && 2u > 1.5 && 1 <= 1.0 && o.i == 3 && o.d > 1 && dyn(1) == 1.0 && dyn(1u) == 1",
        "0x1f == 31 && -0x1f == -31 && --1 == 1 && !!true",
        "'a' + 'b' == \"ab\" && b'a' + b'\\x62' == b'ab' && [1] + [2] == [1, 2]",
        "'a' < 'b' && b'a' < b'b' && false < true",
        "true ? 1 == 1 : 1 / 0 == 0",
        // Errors beside a decisive term do not count.
        "true || 1 / 0 == 1",
        "1 / 0 == 1 || true",
        "!(false && 1 / 0 == 1)",
        "!(o.missing == 1 && false)",
        // Members.
        "o.i == 3 && o['i'] == 3 && o.m.a == 1 && o.l[0] == 1 && o.n == null",
        "has(o.i) && !has(o.missing) && 'i' in o && 2 in o.l && !('c' in o.m)",
        "size(o.s) == 5 && o.l.size() == 3 && size(o.m) == 2 && 'é'.size() == 1 && bytes('é').size() == 2",
        // Macros.
        "o.l.all(x, x > 0) && o.l.exists(x, x == 2) && o.l.exists_one(x, x == 2) && !o.l.exists_one(x, x > 1)",
        "o.l.map(x, x * 2) == [2, 4, 6] && o.l.filter(x, x > 1) == [2, 3] && o.l.map(x, x > 1, x + 1) == [3, 4]",
        "o.m.all(k, k in ['a', 'b']) && o.m.map(k, o.m[k]) == [1, 2] && o.e.all(x, false)",
        "o.l.exists(x, 1 / (x - 1) == 1) && !o.l.all(x, 1 / (x - 1) == 1 && false)",
        "o.l.all(i, x, x == i + 1) && o.m.exists(k, v, k == 'b' && v == 2) && o.l.existsOne(i, v, i == v - 1 && i == 0)",
        "o.l.transformList(i, v, i * v) == [0, 2, 6] && o.l.transformMap(i, v, v > 1, v) == {1: 2, 2: 3}",
        "o.m.transformMapEntry(k, v, {v: k}) == {1: 'a', 2: 'b'} && o.m.transformMap(k, v, v + 1) == {'a': 2, 'b': 3}",
        // Conversions.
        "int('42') == 42 && uint(3) == 3u && double('1.5') == 1.5 && string(1) == '1' && string(1.5) == '1.5'",
        "bool('true') && string(b'abc') == 'abc' && int(2.9) == 2 && type(1) == int && type('') == string",
        "string(duration('1h')) == '3600s' && string(timestamp('2024-01-01T00:00:00Z')) == '2024-01-01T00:00:00Z'",
        // Time.
        "timestamp('2024-02-01T00:00:00Z') - timestamp('2024-01-01T00:00:00Z') == duration('744h')",
        "timestamp('2024-01-01T00:00:00Z') + duration('1h') > timestamp('2024-01-01T00:30:00Z')",
        "timestamp('2024-02-29T12:34:56Z').getFullYear() == 2024 && timestamp('2024-02-29T12:34:56Z').getMonth() == 1",
        "timestamp('2024-02-29T12:34:56Z').getDayOfMonth() == 28 && timestamp('2024-02-29T23:00:00Z').getHours('+02:00') == 1",
        "duration('90m').getHours() == 1 && duration('1.5s').getMilliseconds() == 1500",
        // Strings.
        "'hello'.startsWith('he') && 'hello'.endsWith('lo') && 'hello'.contains('ll') && 'hello'.matches('^h.*o$')",
        "'héllo'.charAt(1) == 'é' && 'héllo'.indexOf('l') == 2 && 'héllo'.lastIndexOf('l') == 3 && 'a'.indexOf('b') == -1",
        "'AbC'.lowerAscii() == 'abc' && 'abc'.upperAscii() == 'ABC' && '  x '.trim() == 'x'",
        "'hello'.replace('l', 'L') == 'heLLo' && 'hello'.replace('l', 'L', 1) == 'heLlo' && 'hello'.substring(1, 3) == 'el'",
        "'a,b,c'.split(',') == ['a', 'b', 'c'] && 'a,b,c'.split(',', 2) == ['a', 'b,c'] && ['a', 'b'].join('-') == 'a-b'",
        "'abc'.split('') == ['a', 'b', 'c'] && ['a', 'b'].join() == 'ab'",
        "'%s is %d and %.2f %x %b'.format(['a', 1, 1.234, 255, 5]) == 'a is 1 and 1.23 ff 101'",
        "'%s'.format([[1, 'a', {'k': null}]]) == '[1, a, {k: null}]' && strings.quote('a\"b') == '\"a\\\\\"b\"'",
        "'abc123'.find('[0-9]+') == '123' && 'a1b2'.findAll('[0-9]') == ['1', '2'] && 'a1b2'.findAll('[0-9]', 1) == ['1']",
        // Lists and sets.
        "[1, 2, 3].sum() == 6 && [3, 1].min() == 1 && ['a', 'b'].max() == 'b' && [1, 2].isSorted() && !['b', 'a'].isSorted()",
        "[1, 2, 1].indexOf(1) == 0 && [1, 2, 1].lastIndexOf(1) == 2 && !o.names.isSorted()",
        "sets.contains([1, 2, 3], [2]) && sets.equivalent([1, 1], [1]) && sets.intersects([1], [1, 2])",
        // Libraries of Kubernetes.
        "quantity('1Gi').isGreaterThan(quantity('500Mi')) && quantity('1').add(quantity('500m')) == quantity('1500m')",
        "isQuantity('1k') && !isQuantity('x') && quantity('2').asInteger() == 2 && quantity('1').compareTo(quantity('2')) == -1",
        "quantity('0.5').sub(1).sign() == -1 && quantity('1k').isInteger() && quantity('500m').asApproximateFloat() == 0.5",
        "ip('127.0.0.1').isLoopback() && ip('::1').family() == 6 && isIP('1.2.3.4') && !isIP('1.2.3') && ip.isCanonical('::1')",
        "cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').containsCIDR(cidr('10.1.0.0/16'))",
        "cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8') && cidr('10.1.2.3/8').ip() == ip('10.1.2.3') && isCIDR('::/0')",
        "string(ip('::1')) == '::1' && string(cidr('10.0.0.0/8')) == '10.0.0.0/8' && cidr('10.0.0.0/8').prefixLength() == 8",
        "url('https://a.b:8080/p?x=1&x=2').getHost() == 'a.b:8080' && url('https://a.b:80/p').getHostname() == 'a.b'",
        "url('https://a.b:8080/p%20q').getEscapedPath() == '/p%20q' && url('https://a:1/').getPort() == '1' && !isURL('../a')",
        "url('https://a/?k=1&k=2').getQuery() == {'k': ['1', '2']} && url('https://a').getScheme() == 'https'",
        "semver('1.2.3').isLessThan(semver('1.10.0')) && semver('1.2.3').minor() == 2 && isSemver('v1.0', true) && !isSemver('v1.0')",
        "!format.dns1123Label().validate('a-b').hasValue() && format.named('uuid').hasValue() && !format.named('x').hasValue()",
        "format.dns1123Label().validate('A').value().size() > 0",
        // Optional values.
        "o.?i.orValue(0) == 3 && o.?missing.orValue(7) == 7 && o.l[?9].orValue(1) == 1 && !o.?missing.hasValue()",
        "o.?missing.?deeper.orValue('x') == 'x' && o.?m.a.orValue(0) == 1 && optional.none().or(optional.of(1)).value() == 1",
        "[1, ?o.?missing, ?o.?i] == [1, 3] && {?'a': o.?missing, 'b': 1} == {'b': 1} && optional.of(2).optMap(x, x + 1).value() == 3",
        "!optional.ofNonZeroValue('').hasValue() && optional.of(1).optFlatMap(x, optional.of(x)).value() == 1",
    ] {
        assert_eq!(run(source), "true", "{source}");
    }
}

#[test]
fn failures_are_told() {
    for (source, want) in [
        ("o.missing == 1", "error: no such key: missing"),
        ("o.l[7] == 1", "error: index out of bounds: 7"),
        ("o.l[-1] == 1", "error: index out of bounds: -1"),
        ("1 / (o.i - 3) == 1", "error: division by zero"),
        ("o.i % 0 == 1", "error: modulus by zero"),
        ("9223372036854775807 + o.i > 0", "error: integer overflow"),
        ("o.s > 3", "error: no such overload"),
        ("o.s.foo", "error: no such overload"),
        ("int(o.s) == 1", "error: type conversion error from 'string' to 'int'"),
        ("optional.none().value() == 1", "error: optional.none() dereference"),
        ("{'a': 1, 'a': 2} == {}", "error: insert failed: key a already exists"),
        ("o.l.exists(x, o.missing == x)", "error: no such key: missing"),
        // What the checker refuses.
        ("x == 1", "refused: undeclared reference to 'x' (in container '')"),
        ("o.foo(1)", "refused: undeclared reference to 'foo' (in container '')"),
        ("1 + 'a' == 2", "refused: found no matching overload for '_+_' applied to '(int, string)'"),
        ("1 == 'a'", "refused: found no matching overload for '_==_' applied to '(int, string)'"),
        ("'a'.startsWith(1)", "refused: found no matching overload for 'startsWith' applied to 'string.(int)'"),
        ("!1", "refused: found no matching overload for '!_' applied to '(int)'"),
        ("true && 1", "refused: found no matching overload for '_&&_' applied to '(bool, int)'"),
        ("[1, 'a'].size() == 2", "refused: expected type 'int' but found 'string'"),
        (
            "1.all(x, true)",
            "refused: expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)",
        ),
        ("[1].all(x, x)", "refused: found no matching overload for '_&&_' applied to '(bool, int)'"),
        ("1.foo == 2", "refused: type 'int' does not support field selection"),
        ("'a'.matches('(')", "refused: invalid matches argument"),
        ("duration('x') > duration('1s')", "refused: invalid duration argument"),
        ("cel.bind(x, 1, x) == 1", "refused: undeclared reference"),
        ("Foo{a: 1} == null", "refused: undeclared reference to 'Foo'"),
    ] {
        assert!(run(source).starts_with(want), "{source}: {}", run(source));
    }
}

#[test]
fn no_run_costs_more_than_it_may() {
    let program = |source: &str| Program::compile(source, &env()).unwrap_or_else(|e| panic!("{source}: {e}"));
    let many: Vec<Json> = (0..1000).map(Json::from).collect();
    let big = json!({"l": many, "s": "x".repeat(100_000)});
    let values = [Value::untyped(&big)];
    for source in [
        "o.l.all(a, o.l.all(b, o.l.all(c, a + b + c >= 0)))",
        "o.l.map(a, o.l.map(b, o.l)).size() > 0",
        "o.l.map(a, o.s + o.s).size() > 0",
        "o.l.map(a, o.s.replace('x', o.s)).size() > 0",
        "o.l.exists(a, o.s.matches('(x*)*(x*)*y' + string(a)))",
        "o.l.map(a, o.s.split('')).size() > 0",
        "o.l.all(a, o.l == o.l && o.s == o.s && [o.s, o.s] == [o.s, o.s])",
        "o.l.map(a, '%s%s%s'.format([o.s, o.s, o.s])).size() > 0",
    ] {
        let program = program(source);
        let outcome = program.run(values.as_slice(), CALL_COST_MAX);
        assert_eq!(
            outcome.result.unwrap_err().to_string(),
            "operation cancelled: actual cost limit exceeded",
            "{source}"
        );
    }
    // A run may be given less.
    assert!(program("o.l.size() > 0").run(values.as_slice(), 1).result.is_err());
}

#[test]
fn deep_expressions_run_in_a_small_stack() {
    let work = || {
        let deep = format!("{}1{} > 1", "(1 + ".repeat(95), ")".repeat(95));
        let list = format!("{}1{}.size() == 1", "[".repeat(95), "]".repeat(95));
        let folds = (0..90).fold("x0 == 0".to_owned(), |inner, i| format!("[0].all(x{}, {inner})", 89 - i));
        for source in [deep, list, folds] {
            let program = Program::compile(&source, &env()).unwrap_or_else(|e| panic!("{source}: {e}"));
            let values = [Value::Null];
            assert!(program.run(values.as_slice(), CALL_COST_MAX).result.is_ok());
            assert!(kubernetes_cel::cost::estimate(&program) < u64::MAX);
        }
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(work).unwrap().join().unwrap();
}

/// What an expression of a mutation comes to, with its objects' names checked.
fn mutation(source: &str) -> String {
    let env = Env { mutation: true, ..env() };
    let program = match Program::compile(source, &env) {
        Ok(program) => program,
        Err(issues) => return format!("refused: {}", issues.list[0].message),
    };
    let object = object();
    let values = [Value::untyped(&object)];
    match program.run(values.as_slice(), CALL_COST_MAX).result {
        Ok(value) => match (value.check_names(), value.to_json()) {
            (Err(why), _) => format!("misnamed: {why}"),
            (Ok(()), json) => format!("{} {}", program.result(), json.unwrap_or_default()),
        },
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn mutations_make_objects_and_patches() {
    for (source, want) in [
        ("Object{}", "Object {}"),
        (
            "Object{metadata: Object.metadata{labels: {'a': 'b'}}, spec: Object.spec{replicas: o.i + 1}}",
            r#"Object {"metadata":{"labels":{"a":"b"}},"spec":{"replicas":4}}"#,
        ),
        (
            "Object{spec: Object.spec{containers: o.names.map(n, Object.spec.containers{name: n, ?image: optional.none()})}}",
            r#"Object {"spec":{"containers":[{"name":"b"},{"name":"a"}]}}"#,
        ),
        ("Object{spec: Object.spec{?replicas: o.?i}}", r#"Object {"spec":{"replicas":3}}"#),
        ("Object{spec: Object.spec{?replicas: o.?missing}}", r#"Object {"spec":{}}"#),
        ("o.i == 3 ? Object{} : Object{spec: Object.spec{}}", "Object {}"),
        (
            "Object{spec: Object.wrong{}}",
            "refused: expected type of field 'spec' is 'Object.spec' but provided type is 'Object.wrong'",
        ),
        (
            "Object{spec: dyn(Object.wrong{})}",
            "misnamed: unexpected type name \"Object.wrong\", expected \"Object.spec\", which matches field name path from root Object type",
        ),
        (
            "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b~c'), value: 'x'}]",
            r#"list(JSONPatch) [{"op":"add","path":"/metadata/labels/a~1b~0c","value":"x"}]"#,
        ),
        (
            "[JSONPatch{op: 'move', from: '/a', path: '/b'}, JSONPatch{op: 'add', path: '/c', value: Object.spec{x: 1}}]",
            r#"list(JSONPatch) [{"from":"/a","op":"move","path":"/b"},{"op":"add","path":"/c","value":{"x":1}}]"#,
        ),
        ("[JSONPatch{op: 'remove', path: '/a', nothing: 1}]", "refused: undefined field 'nothing'"),
        ("o.l.map(i, JSONPatch{op: 'remove', path: '/l/0'}).size()", "int 3"),
        ("Thing{}", "refused: undeclared reference to 'Thing' (in container '')"),
    ] {
        assert_eq!(mutation(source), want, "{source}");
    }
    assert!(run("Object{}").starts_with("refused: undeclared reference to 'Object'"));
}
