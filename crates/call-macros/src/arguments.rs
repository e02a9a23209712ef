//! What stands in the brackets of our attributes.

use syn::meta::ParseNestedMeta;
use syn::parse::{ParseStream, Parser as _};
use syn::{Error, LitStr, Path, Result, Token};

/// The arguments of `#[client(…)]`.
pub(crate) struct ClientArguments {
    pub(crate) service: String,
    pub(crate) root: Option<Path>,
}

/// Reads the arguments of `#[client(…)]`.
pub(crate) fn client(tokens: proc_macro2::TokenStream) -> Result<ClientArguments> {
    let (mut service, mut root) = (None, None);
    syn::meta::parser(|meta| {
        if meta.path.is_ident("service") {
            let text: LitStr = meta.value()?.parse()?;
            once(&meta, &mut service, service_name(&text)?)
        } else if meta.path.is_ident("crate") {
            let text: LitStr = meta.value()?.parse()?;
            once(&meta, &mut root, text.parse()?)
        } else {
            Err(meta.error("unknown argument: expected `service` or `crate`"))
        }
    })
    .parse2(tokens)?;
    let service = service.ok_or_else(|| {
        let message = "say which service is called: `#[client(service = \"inventory\")]`";
        Error::new(proc_macro2::Span::call_site(), message)
    })?;
    Ok(ClientArguments { service, root })
}

fn once<T>(meta: &ParseNestedMeta<'_>, slot: &mut Option<T>, value: T) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(meta.error("given twice")),
    }
}

fn service_name(text: &LitStr) -> Result<String> {
    let name = text.value();
    let right = name.starts_with(|it: char| it.is_ascii_lowercase() || it.is_ascii_digit())
        && name.len() <= 128
        && name
            .bytes()
            .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || b"-_.".contains(&it));
    if right {
        return Ok(name);
    }
    let message = "a service name is made of lower-case letters, digits, `-`, `_` and `.`";
    Err(Error::new(text.span(), message))
}

/// The arguments of `#[get(…)]` and its kin.
pub(crate) struct CallArguments {
    pub(crate) template: LitStr,
    pub(crate) idempotent: bool,
    pub(crate) timeout_ms: Option<u64>,
}

impl syn::parse::Parse for CallArguments {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        if !input.peek(LitStr) {
            return Err(input.error("expected the path first, like \"/products/{id}\""));
        }
        let template = input.parse()?;
        let (mut idempotent, mut timeout_ms) = (None, None);
        if input.parse::<Option<Token![,]>>()?.is_some() {
            let flags = syn::meta::parser(|meta| {
                if meta.path.is_ident("idempotent") {
                    once(&meta, &mut idempotent, ())
                } else if meta.path.is_ident("timeout") {
                    let text: LitStr = meta.value()?.parse()?;
                    once(&meta, &mut timeout_ms, duration_ms(&text)?)
                } else {
                    Err(meta.error("unknown argument: expected `idempotent` or `timeout`"))
                }
            });
            flags.parse2(input.parse()?)?;
        } else if !input.is_empty() {
            return Err(input.error("expected `,`"));
        }
        Ok(Self { template, idempotent: idempotent.is_some(), timeout_ms })
    }
}

/// `250ms`, `3s`, `2m`: more than nothing, at most a day, as deadlines are.
fn duration_ms(text: &LitStr) -> Result<u64> {
    const MAX_MS: u64 = 24 * 3600 * 1000;
    let value = text.value();
    let split = value.find(|it: char| !it.is_ascii_digit()).unwrap_or(value.len());
    let (digits, unit) = value.split_at(split);
    let factor = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => 0,
    };
    let millis = digits.parse::<u64>().ok().and_then(|it| it.checked_mul(factor)).unwrap_or(0);
    if (1..=MAX_MS).contains(&millis) {
        return Ok(millis);
    }
    Err(Error::new(text.span(), "expected a time like \"250ms\", \"3s\" or \"2m\", at most a day"))
}

/// The name in brackets of a parameter's attribute, `#[header("if-match")]`; `None` for the bare
/// attribute.
pub(crate) fn optional_name(attribute: &syn::Attribute) -> Result<Option<LitStr>> {
    match &attribute.meta {
        syn::Meta::Path(_) => Ok(None),
        syn::Meta::List(_) => attribute.parse_args().map(Some),
        syn::Meta::NameValue(it) => {
            Err(Error::new(it.eq_token.span, "expected a name in brackets, like `(\"page\")`"))
        }
    }
}
