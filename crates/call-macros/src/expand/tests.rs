use super::client;

/// The code a trait with this one method expands to, without white space; or the mistakes.
fn expanded(method: &str) -> Result<String, Vec<String>> {
    whole("service = \"inventory\"", &format!("pub trait Inventory {{ {method} }}"))
}

fn whole(arguments: &str, item: &str) -> Result<String, Vec<String>> {
    match client(arguments.parse().unwrap(), item.parse().unwrap(), "::tradewind_call") {
        Ok(tokens) => Ok(tokens.to_string().split_whitespace().collect()),
        Err(error) => Err(error.into_iter().map(|it| it.to_string()).collect()),
    }
}

/// Asserts that `text` is refused, with a message that contains each of `wanted`, in order.
#[track_caller]
fn refused(result: Result<String, Vec<String>>, wanted: &[&str]) {
    let mistakes = result.expect_err("this must be refused");
    assert_eq!(mistakes.len(), wanted.len(), "{mistakes:#?}");
    for (mistake, wanted) in mistakes.iter().zip(wanted) {
        assert!(mistake.contains(wanted), "`{mistake}` does not say `{wanted}`");
    }
}

#[test]
fn the_trait_keeps_its_shape_and_gains_a_client() {
    let code = expanded(
        "/// One product.\n #[get(\"/products/{id}\")] \
         async fn product(&self, #[path] id: i64) -> Result<Product, CallError>;",
    )
    .unwrap();
    for part in [
        "pubtraitInventory{",
        "#[doc=\"Oneproduct.\"]fnproduct(&self,id:i64)->impl::core::future::Future<Output=Result<Product,CallError>>+::core::marker::Send;",
        "pubstructInventoryClient{",
        "pubconstSERVICE:&'staticstr=\"inventory\";",
        "implInventoryforInventoryClient{",
        "Request::new(::tradewind_call::__private::Method::GET,\"/products/{id}\");",
        "request.literal(\"/products/\");letrequest=request.segment(\"id\",&id);",
        "self.channel.call(request).await",
    ] {
        assert!(code.contains(part), "`{part}` is missing in:\n{code}");
    }
    assert!(!code.contains("#[get"), "our attributes are gone");
}

#[test]
fn flags_reach_the_request_and_unit_ignores_the_body() {
    let code = expanded(
        "#[post(\"/x\", idempotent, timeout = \"1500ms\")] \
         async fn x(&self, #[json] body: &Ask) -> Result<(), CallError>;",
    )
    .unwrap();
    for part in [
        "Method::POST,\"/x\"",
        "request.idempotent()",
        "Duration::from_millis(1500u64)",
        "request.json(&body)",
        "self.channel.run(request)",
    ] {
        assert!(code.contains(part), "`{part}` is missing in:\n{code}");
    }
}

#[test]
fn options_and_lists_are_unfolded_to_any_depth() {
    let code = expanded(
        "#[get(\"/x\")] async fn x(&self, #[query] a: Option<&str>, #[query(\"id\")] b: &[i64], \
         #[query] c: std::option::Option<Vec<u8>>, #[header(\"If-Match\")] d: Option<String>) \
         -> Result<X, CallError>;",
    )
    .unwrap();
    for part in [
        "match&a{::core::option::Option::Some(one)=>{letrequest=request.query(\"a\",one);request}",
        "foronein(&b).iter(){request={letrequest=request.query(\"id\",one);request};}",
        "Some(one)=>{letmutrequest=request;foronein(one).iter()",
        "request.header(\"if-match\",one)",
    ] {
        assert!(code.contains(part), "`{part}` is missing in:\n{code}");
    }
}

#[test]
fn the_root_can_be_named_and_a_raw_parameter_is_sent_plain() {
    let code = whole(
        "service = \"inventory\", crate = \"crate::calls\"",
        "trait T { #[get(\"/x\")] async fn x(&self, #[query] r#type: u8) -> Result<X, E>; }",
    )
    .unwrap();
    assert!(code.contains("crate::calls::__private::Request::new"), "{code}");
    assert!(code.contains("request.query(\"type\",&r#type)"), "{code}");
    assert!(!code.contains("tradewind_call"), "{code}");
}

#[test]
fn wrong_arguments_of_the_client_are_named() {
    let item = "trait T {}";
    refused(whole("", item), &["say which service"]);
    refused(whole("service = \"Inventory\"", item), &["lower-case"]);
    refused(whole("service = \"-x\"", item), &["lower-case"]);
    refused(whole("service = \"a\", service = \"b\"", item), &["given twice"]);
    refused(whole("service = \"a\", url = \"b\"", item), &["unknown argument"]);
    refused(whole("service = 3", item), &["expected string literal"]);
    refused(whole("service = \"a\"", "struct S;"), &["stands on a trait"]);
}

#[test]
fn wrong_shapes_of_the_trait_are_named() {
    let service = "service = \"a\"";
    refused(whole(service, "unsafe trait T {}"), &["not `unsafe`"]);
    refused(whole(service, "trait T<X> {}"), &["generics are not supported"]);
    refused(whole(service, "trait T where Self: Sized {}"), &["`where` is not supported"]);
    refused(whole(service, "trait T { const X: u8; type Y; }"), &["methods only", "methods only"]);
}

#[test]
fn every_mistake_of_a_method_is_reported_at_once() {
    refused(
        expanded("#[get(\"/x/{id}\", often)] fn x<T>(self, #[json] a: T, b: u8) -> u8 { 1 }"),
        &[
            "write `async fn`",
            "generics are not supported",
            "the body is generated",
            "a call takes `&self`, so",
            "say where it goes",
            "a GET has no body",
            "answers `Result<T, CallError>`",
            "unknown argument: expected `idempotent` or `timeout`",
        ],
    );
}

#[test]
fn path_and_parameters_must_fit() {
    let method = |path: &str, parameters: &str| {
        expanded(&format!(
            "#[get(\"{path}\")] async fn x(&self, {parameters}) -> Result<X, CallError>;"
        ))
    };
    refused(method("/x/{id}", ""), &["nothing fills `{id}`"]);
    refused(method("/x", "#[path] id: u8"), &["the path has no `{id}`"]);
    refused(method("/x/{id}", "#[path] id: u8, #[path(\"id\")] b: u8"), &["filled twice"]);
    refused(method("x", ""), &["a path starts with `/`"]);
    refused(method("/x", "#[query] #[header(\"a\")] a: u8"), &["goes to one place"]);
    refused(method("/x", "#[body] a: u8"), &["say where it goes"]);
    refused(method("/x", "#[query(\"\")] a: u8"), &["has a name"]);
    refused(method("/x", "#[header] a: u8"), &["name the header"]);
    refused(method("/x", "#[header(\"a b\")] a: u8"), &["not a header name"]);
    refused(method("/x", "#[header(\"X-Tradewind-User\")] a: u8"), &["by the call itself"]);
    refused(method("/x", "#[header(\"Host\")] a: u8"), &["by the call itself"]);
    refused(method("/x", "#[query] (a, b): (u8, u8)"), &["a plain name"]);
    refused(method("/x", "#[query] a: impl Display"), &["name the type"]);
}

#[test]
fn verbs_flags_and_answers_are_checked() {
    let answer = "-> Result<X, CallError>;";
    refused(expanded(&format!("async fn x(&self) {answer}")), &["say how it is called"]);
    refused(expanded(&format!("#[get] async fn x(&self) {answer}")), &["a path in brackets"]);
    refused(
        expanded(&format!("#[get(\"/a\")] #[put(\"/b\")] async fn x(&self) {answer}")),
        &["its second path"],
    );
    refused(
        expanded(&format!(
            "#[post(\"/a\")] async fn x(&self, #[json] a: A, #[json] b: B) {answer}"
        )),
        &["a second body"],
    );
    refused(
        expanded(&format!("#[delete(\"/a\")] async fn x(&self, #[json] a: A) {answer}")),
        &["a DELETE has no body"],
    );
    for time in ["", "5", "0s", "s", "1h", "1.5s", "-1s", "1441m", "99999999999999999999s"] {
        refused(
            expanded(&format!("#[get(\"/a\", timeout = \"{time}\")] async fn x(&self) {answer}")),
            &["expected a time like"],
        );
    }
    for answer in ["", "-> X", "-> Option<X>", "-> Result", "-> (X, Y)"] {
        refused(
            expanded(&format!("#[get(\"/a\")] async fn x(&self) {answer};")),
            &["answers `Result<T, CallError>`"],
        );
    }
}
