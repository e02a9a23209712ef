//! From the impl block to the implementation of the trait.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::Parser as _;
use syn::spanned::Spanned as _;
use syn::{Error, FnArg, ImplItem, ImplItemFn, ItemImpl, LitStr, Path, Type};

/// The steps that must be there.
const STEPS: [&str; 3] = ["reserve", "confirm", "cancel"];

/// The one that may be.
const ENTER: &str = "enter";

const ACTION_MAX: usize = 64;

struct Arguments {
    action: LitStr,
    root: Path,
}

pub(crate) fn participant(
    arguments: TokenStream,
    item: TokenStream,
    root: &str,
) -> Result<TokenStream, Error> {
    let Arguments { action, root } = read_arguments(arguments, root)?;
    let block: ItemImpl = syn::parse2(item)?;
    if let Some((path, _)) = &block.trait_ {
        let message = "write `impl Type`: the attribute names the trait";
        return Err(Error::new(path.span(), message));
    }
    let methods = methods(&block)?;
    let reservation = reservation(&methods)?;
    let ItemImpl { attrs, generics, self_ty, .. } = &block;
    let (generics, _, clause) = generics.split_for_impl();
    Ok(quote! {
        #(#attrs)*
        impl #generics #root::Participant for #self_ty #clause {
            type Reservation = #reservation;
            const ACTION: &'static str = #action;
            #(#methods)*
        }
    })
}

fn read_arguments(arguments: TokenStream, root: &str) -> Result<Arguments, Error> {
    let mut action: Option<LitStr> = None;
    let mut root: Path = syn::parse_str(root)?;
    let parser = syn::meta::parser(|meta| {
        if meta.path.is_ident("action") {
            action = Some(meta.value()?.parse()?);
            Ok(())
        } else if meta.path.is_ident("crate") {
            root = meta.value()?.parse::<LitStr>()?.parse()?;
            Ok(())
        } else {
            Err(meta.error("expected `action` or `crate`"))
        }
    });
    let span = arguments.span();
    parser.parse2(arguments)?;
    let action =
        action.ok_or_else(|| Error::new(span, "say `action = \"…\"`: the name in the path"))?;
    if !usable(&action.value()) {
        let message = "an action is lower-case letters, digits, `-` and inner `.`, at most 64";
        return Err(Error::new(action.span(), message));
    }
    Ok(Arguments { action, root })
}

/// One segment of a path, which no client and no proxy rewrites: a dot stands between two names
/// only, so that `.` and `..` are none.
fn usable(action: &str) -> bool {
    let fits = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
    let named = |it: &str| !it.is_empty() && it.bytes().all(fits);
    action.len() <= ACTION_MAX && action.split('.').all(named)
}

fn methods(block: &ItemImpl) -> Result<Vec<&ImplItemFn>, Error> {
    let mut methods = Vec::new();
    for item in &block.items {
        let ImplItem::Fn(method) = item else {
            return Err(Error::new(item.span(), "only the steps belong here"));
        };
        let name = method.sig.ident.to_string();
        if name != ENTER && !STEPS.contains(&name.as_str()) {
            let message = "expected `reserve`, `confirm`, `cancel` or `enter`; \
                put anything else into an impl block of its own";
            return Err(Error::new(method.sig.ident.span(), message));
        }
        methods.push(method);
    }
    for step in STEPS {
        if !methods.iter().any(|it| it.sig.ident == step) {
            return Err(Error::new(block.self_ty.span(), format!("`{step}` is missing")));
        }
    }
    Ok(methods)
}

/// The type that `reserve` takes last, by reference.
fn reservation(methods: &[&ImplItemFn]) -> Result<Type, Error> {
    let reserve = methods.iter().find(|it| it.sig.ident == STEPS[0]);
    let last = reserve.and_then(|it| it.sig.inputs.last());
    if let Some(FnArg::Typed(last)) = last
        && let Type::Reference(reference) = &*last.ty
        && reserve.is_some_and(|it| it.sig.inputs.len() == 4)
        && reference.mutability.is_none()
    {
        return Ok((*reference.elem).clone());
    }
    let message =
        "`reserve` takes `&self, tx: &mut Transaction<'_>, call: &Call, it: &Reservation`";
    let span = reserve.map_or_else(proc_macro2::Span::call_site, |it| it.sig.inputs.span());
    Err(Error::new(span, message))
}
