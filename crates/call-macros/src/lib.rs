//! The attribute that turns a trait into an HTTP client: the macro half of `tradewind-call`, which
//! re-exports and documents it.
//!
//! A thin shell: the attribute reads the trait into a model of plain values (`model`, `read`,
//! `template`), reporting every mistake at once and each at the token that is wrong; `expand`
//! turns the model into code. Both are ordinary functions over token streams, with ordinary tests.
//! The expansion names nothing but a hidden module of the call crate, so users need no further
//! dependency.

mod arguments;
mod expand;
mod model;
mod read;
mod template;

use proc_macro::TokenStream;

/// Makes a client of a trait; the paths in the expansion start at `::tradewind_call`.
///
/// Documented where users meet it: `tradewind_call::client`.
#[proc_macro_attribute]
pub fn client(arguments: TokenStream, item: TokenStream) -> TokenStream {
    run(arguments, item, "::tradewind_call")
}

/// The same for users of the facade, who have no `tradewind_call` among their dependencies: the
/// paths in the expansion start at `::tradewind::call`.
#[proc_macro_attribute]
pub fn client_of_facade(arguments: TokenStream, item: TokenStream) -> TokenStream {
    run(arguments, item, "::tradewind::call")
}

fn run(arguments: TokenStream, item: TokenStream, root: &str) -> TokenStream {
    expand::client(arguments.into(), item.into(), root)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
