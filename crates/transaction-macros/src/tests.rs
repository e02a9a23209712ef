//! What the attribute makes, and what it refuses.

use proc_macro2::TokenStream;
use quote::quote;

use crate::expand::participant;

const ROOT: &str = "::tradewind_transaction";

fn steps() -> TokenStream {
    quote! {
        impl Stock {
            fn reserve(&self, tx: &mut Transaction<'_>, call: &Call, it: &Take) -> Done { one() }
            fn confirm(&self, tx: &mut Transaction<'_>, call: &Call, it: &Take) -> Done { two() }
            fn cancel(&self, tx: &mut Transaction<'_>, call: &Call, it: &Take) -> Done { three() }
        }
    }
}

#[test]
fn an_impl_block_becomes_a_participant() {
    let made = participant(quote!(action = "stock"), steps(), ROOT).unwrap();
    let expected = quote! {
        impl ::tradewind_transaction::Participant for Stock {
            type Reservation = Take;
            const ACTION: &'static str = "stock";
            fn reserve(&self, tx: &mut Transaction<'_>, call: &Call, it: &Take) -> Done { one() }
            fn confirm(&self, tx: &mut Transaction<'_>, call: &Call, it: &Take) -> Done { two() }
            fn cancel(&self, tx: &mut Transaction<'_>, call: &Call, it: &Take) -> Done { three() }
        }
    };
    assert_eq!(made.to_string(), expected.to_string());
    for name in ["inventory.reserve", "a.b-2.c", &"x".repeat(64)] {
        let made = participant(quote!(action = #name), steps(), ROOT).unwrap().to_string();
        assert!(made.contains(&format!("\"{name}\"")), "{made}");
    }
    let elsewhere = quote!(action = "stock", crate = "crate::own");
    let made = participant(elsewhere, steps(), ROOT).unwrap().to_string();
    assert!(made.contains(":: own :: Participant"), "{made}");
}

#[test]
fn what_is_no_participant_is_refused_with_its_reason() {
    let refused = |arguments: TokenStream, item: TokenStream| {
        participant(arguments, item, ROOT).unwrap_err().to_string()
    };
    let action = || quote!(action = "stock");
    let long = "x".repeat(65);
    for (message, reason) in [
        (refused(quote!(), steps()), "action"),
        (refused(quote!(action = "Stock"), steps()), "lower-case"),
        (refused(quote!(action = ""), steps()), "lower-case"),
        (refused(quote!(action = "a/b"), steps()), "lower-case"),
        (refused(quote!(action = "."), steps()), "lower-case"),
        (refused(quote!(action = ".stock"), steps()), "lower-case"),
        (refused(quote!(action = "stock."), steps()), "lower-case"),
        (refused(quote!(action = "stock..reserve"), steps()), "lower-case"),
        (refused(quote!(action = #long), steps()), "lower-case"),
        (refused(quote!(name = "stock"), steps()), "expected `action`"),
        (refused(action(), quote!(impl Trait for Stock {})), "impl Type"),
        (refused(action(), quote!(impl Stock {})), "`reserve` is missing"),
        (refused(action(), quote!(impl Stock { fn other(&self) {} })), "of its own"),
        (refused(action(), quote!(impl Stock { const A: u8 = 1; })), "only the steps"),
        (
            refused(
                action(),
                quote!(impl Stock { fn reserve(&self) {} fn confirm(&self) {} fn cancel(&self) {} }),
            ),
            "takes `&self",
        ),
    ] {
        assert!(message.contains(reason), "{message}");
    }
}
