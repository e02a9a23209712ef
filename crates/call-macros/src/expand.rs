//! Turns the model into code.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{GenericArgument, PathArguments, Result, Type};

use crate::model::{Client, Method, Parameter, Piece, Place};
use crate::read;

/// The whole of the attribute: reads and expands.
///
/// # Errors
/// All mistakes in the declaration, combined.
pub(crate) fn client(arguments: TokenStream, item: TokenStream, root: &str) -> Result<TokenStream> {
    read::client(arguments, item, root).map(|it| code(&it))
}

fn code(client: &Client) -> TokenStream {
    let Client { attributes, visibility, name, supertraits, service, root, .. } = client;
    let colon = (!supertraits.is_empty()).then(|| quote!(:));
    let struct_name = format_ident!("{name}Client");
    let about = format!(
        "Calls the service `{service}` over HTTP as [`{name}`] declares it. \
         Clones share one channel."
    );
    let declared = client.methods.iter().map(|it| {
        let (attributes, head) = (&it.attributes, head(it));
        quote!(#(#attributes)* #head;)
    });
    let implemented = client.methods.iter().map(|it| {
        let conditions = it.attributes.iter().filter(|it| it.path().is_ident("cfg"));
        let (head, body) = (head(it), body(it, root));
        quote!(#(#conditions)* #head { #body })
    });
    quote! {
        #(#attributes)*
        #visibility trait #name #colon #supertraits {
            #(#declared)*
        }

        #[doc = #about]
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        #visibility struct #struct_name {
            channel: #root::__private::Channel,
        }

        impl #struct_name {
            /// The name of the service that is called.
            pub const SERVICE: &'static str = #service;

            /// A client that calls through `channel`.
            #[must_use]
            pub const fn new(channel: #root::__private::Channel) -> Self {
                Self { channel }
            }

            /// The channel that is called through.
            #[must_use]
            pub const fn channel(&self) -> &#root::__private::Channel {
                &self.channel
            }
        }

        impl #name for #struct_name {
            #(#implemented)*
        }
    }
}

/// `fn product(&self, id: i64) -> impl Future<Output = …> + Send`: a fake may still implement it
/// with a plain `async fn`, and callers may still spawn it.
fn head(method: &Method) -> TokenStream {
    let Method { name, output, .. } = method;
    let parameters =
        method.parameters.iter().map(|Parameter { name, kind, .. }| quote!(#name: #kind));
    let future = quote_spanned! {at(output)=>
        impl ::core::future::Future<Output = #output> + ::core::marker::Send
    };
    quote!(fn #name(&self #(, #parameters)*) -> #future)
}

/// The request is built before the future, so that the future holds no parameter: it stays `Send`
/// whatever they are.
fn body(method: &Method, root: &syn::Path) -> TokenStream {
    let request = Ident::new("request", Span::mixed_site());
    let (verb, template) = (Ident::new(method.verb.name(), Span::mixed_site()), &method.template);
    let idempotent = method.idempotent.then(|| quote!(let #request = #request.idempotent();));
    let timeout = method.timeout_ms.map(
        |it| quote!(let #request = #request.timeout(::core::time::Duration::from_millis(#it));),
    );
    let path = method.path.iter().map(|it| {
        match it {
        Piece::Literal(text) => quote!(let #request = #request.literal(#text);),
        Piece::Parameter(wanted) => method
            .parameters
            .iter()
            .find(|it| matches!(&it.place, Place::Path(name) if name == wanted))
            .map(|Parameter { name, kind, .. }| {
                quote_spanned!(at(kind)=> let #request = #request.segment(#wanted, &#name);)
            })
            .unwrap_or_default(),
    }
    });
    let rest = method.parameters.iter().map(|it| parameter(it, &request));
    let run = Ident::new(if method.unit { "run" } else { "call" }, at(&method.output));
    let send = quote_spanned! {at(&method.output)=>
        async move { self.channel.#run(#request).await }
    };
    quote! {
        let #request = #root::__private::Request::new(#root::__private::Method::#verb, #template);
        #idempotent
        #timeout
        #(#path)*
        #(#rest)*
        #send
    }
}

fn parameter(parameter: &Parameter, request: &Ident) -> TokenStream {
    let Parameter { name, kind, place } = parameter;
    match place {
        Place::Path(_) => TokenStream::new(),
        Place::Query(key) => each(&quote!(&#name), kind, request, &quote!(query), key),
        Place::Header(key) => each(&quote!(&#name), kind, request, &quote!(header), key),
        Place::Json => quote_spanned!(at(kind)=> let #request = #request.json(&#name);),
    }
}

/// Adds `value` (a reference) once, or as often as there is one in it: an `Option` is nothing or
/// one, a `Vec`, slice or array is repeated.
fn each(
    value: &TokenStream,
    kind: &Type,
    request: &Ident,
    add: &TokenStream,
    key: &str,
) -> TokenStream {
    let one = Ident::new("one", Span::mixed_site().located_at(kind.span()));
    let inner = |kind: &Type| {
        let inner = each(&quote!(#one), kind, request, add, key);
        quote_spanned!(at(kind)=> #inner #request)
    };
    match shape(kind) {
        Shape::One => quote_spanned!(at(kind)=> let #request = #request.#add(#key, #value);),
        Shape::Perhaps(kind) => {
            let inner = inner(kind);
            quote! {
                let #request = match #value {
                    ::core::option::Option::Some(#one) => { #inner }
                    ::core::option::Option::None => #request,
                };
            }
        }
        Shape::Many(kind) => {
            let inner = inner(kind);
            quote! {
                let mut #request = #request;
                for #one in (#value).iter() {
                    #request = { #inner };
                }
                let #request = #request;
            }
        }
    }
}

/// The place of a type, for messages, with the scope of the attribute: a type that came out of
/// another macro must not decide what `self` is.
fn at(kind: &Type) -> Span {
    Span::call_site().located_at(kind.span())
}

enum Shape<'a> {
    One,
    Perhaps(&'a Type),
    Many(&'a Type),
}

/// Told by the name of the type, as it is written: a macro sees no further.
fn shape(kind: &Type) -> Shape<'_> {
    match kind {
        Type::Reference(it) => shape(&it.elem),
        Type::Paren(it) => shape(&it.elem),
        Type::Group(it) => shape(&it.elem),
        Type::Slice(it) => Shape::Many(&it.elem),
        Type::Array(it) => Shape::Many(&it.elem),
        Type::Path(it) => it.path.segments.last().map_or(Shape::One, |last| {
            let PathArguments::AngleBracketed(inner) = &last.arguments else { return Shape::One };
            match inner.args.first() {
                Some(GenericArgument::Type(inner)) if last.ident == "Option" => {
                    Shape::Perhaps(inner)
                }
                Some(GenericArgument::Type(inner)) if last.ident == "Vec" => Shape::Many(inner),
                _ => Shape::One,
            }
        }),
        _ => Shape::One,
    }
}

#[cfg(test)]
mod tests;
