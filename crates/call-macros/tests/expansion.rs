//! What the compiler shows to somebody whose declaration is wrong. Each case compiles, so there
//! are few: every mistake of one kind stands in one file.

#[test]
fn mistakes_are_shown_at_the_token_that_is_wrong() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/pass/fake.rs");
    cases.compile_fail("tests/fail/declaration.rs");
    cases.compile_fail("tests/fail/types.rs");
}
