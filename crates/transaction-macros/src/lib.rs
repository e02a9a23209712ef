//! The attribute that makes a participant of an impl block: the macro half of
//! `tradewind-transaction`, which re-exports and documents it.

mod expand;
#[cfg(test)]
mod tests;

use proc_macro::TokenStream;

/// Makes a participant of an impl block; the paths in the expansion start at
/// `::tradewind_transaction`.
///
/// Documented where users meet it: `tradewind_transaction::participant`.
#[proc_macro_attribute]
pub fn participant(arguments: TokenStream, item: TokenStream) -> TokenStream {
    run(arguments, item, "::tradewind_transaction")
}

/// The same for users of the facade: the paths start at `::tradewind::transaction`.
#[proc_macro_attribute]
pub fn participant_of_facade(arguments: TokenStream, item: TokenStream) -> TokenStream {
    run(arguments, item, "::tradewind::transaction")
}

fn run(arguments: TokenStream, item: TokenStream, root: &str) -> TokenStream {
    expand::participant(arguments.into(), item.into(), root)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
