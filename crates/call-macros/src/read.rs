//! Reads a trait into the model. Every mistake is reported, each at the token that is wrong.

mod parameter;

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{
    Attribute, Error, FnArg, GenericArgument, Generics, ItemTrait, Path, PathArguments,
    ReceiverKind, Result, ReturnType, Safety, Signature, TraitItem, TraitItemFn, Type,
};

use crate::arguments::{self, CallArguments};
use crate::model::{Client, Method, Parameter, Place, Verb};
use crate::template;

/// The mistakes found so far.
#[derive(Default)]
struct Mistakes(Option<Error>);

impl Mistakes {
    fn add(&mut self, error: Error) {
        match &mut self.0 {
            Some(all) => all.combine(error),
            None => self.0 = Some(error),
        }
    }

    fn at(&mut self, tokens: impl ToTokens, message: impl std::fmt::Display) {
        self.add(Error::new_spanned(tokens, message));
    }

    fn keep<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.add(error)).ok()
    }
}

/// Reads the arguments of the attribute and the trait under it.
///
/// # Errors
/// All mistakes, combined.
pub(crate) fn client(arguments: TokenStream, item: TokenStream, root: &str) -> Result<Client> {
    let mut mistakes = Mistakes::default();
    let item: ItemTrait = syn::parse2(item).map_err(|error| {
        Error::new(error.span(), format!("`#[client]` stands on a trait: {error}"))
    })?;
    let arguments = mistakes.keep(arguments::client(arguments));
    if let Some(it) = &item.unsafety {
        mistakes.at(it, "a client trait is not `unsafe`");
    }
    mistakes.keep(item.modifiers.require_empty());
    check_generics(&item.generics, &mut mistakes);
    let methods: Vec<Method> =
        item.items.iter().filter_map(|it| member(it, &mut mistakes)).collect();
    let default_root = syn::parse_str::<Path>(root)?;
    match (mistakes.0, arguments) {
        (None, Some(arguments)) => Ok(Client {
            root: arguments.root.unwrap_or(default_root),
            service: arguments.service,
            attributes: item.attrs,
            visibility: item.vis,
            name: item.ident,
            supertraits: item.supertraits,
            methods,
        }),
        (Some(error), _) => Err(error),
        // `keep` has recorded a mistake for the arguments that are not there.
        (None, None) => Err(Error::new_spanned(item.ident, "the arguments do not parse")),
    }
}

fn check_generics(generics: &Generics, mistakes: &mut Mistakes) {
    if !generics.params.is_empty() {
        mistakes.at(&generics.params, "generics are not supported in a client trait");
    }
    if let Some(it) = &generics.where_clause {
        mistakes.at(it, "`where` is not supported in a client trait");
    }
}

fn member(item: &TraitItem, mistakes: &mut Mistakes) -> Option<Method> {
    if let TraitItem::Fn(it) = item {
        return method(it, mistakes);
    }
    mistakes.at(item, "a client trait has methods only");
    None
}

fn method(item: &TraitItemFn, mistakes: &mut Mistakes) -> Option<Method> {
    check_signature(item, mistakes);
    let (calls, attributes): (Vec<_>, Vec<_>) =
        item.attrs.iter().cloned().partition(|it| verb(it).is_some());
    let (verb, arguments) = call(&item.sig, &calls, mistakes)?;
    let parameters: Vec<Parameter> = item
        .sig
        .inputs
        .iter()
        .filter_map(|it| match it {
            FnArg::Receiver(_) => None,
            FnArg::Typed(it) => parameter::read(it, mistakes),
        })
        .collect();
    check_bodies(verb, &parameters, mistakes);
    let unit = mistakes.keep(answers_unit(&item.sig));
    let arguments = mistakes.keep(arguments)?;
    let text = arguments.template.value();
    let path = mistakes
        .keep(template::read(&text).map_err(|it| Error::new(arguments.template.span(), it)))?;
    check_path(&arguments, &path, &parameters, item, mistakes);
    let ReturnType::Type(_, output) = &item.sig.output else { return None };
    Some(Method {
        attributes,
        name: item.sig.ident.clone(),
        verb,
        template: text,
        path,
        parameters,
        idempotent: arguments.idempotent,
        timeout_ms: arguments.timeout_ms,
        output: (**output).clone(),
        unit: unit?,
    })
}

fn verb(attribute: &Attribute) -> Option<Verb> {
    Verb::of_attribute(&attribute.path().get_ident()?.to_string())
}

/// The one attribute that says how the method is called.
fn call(
    signature: &Signature,
    calls: &[Attribute],
    mistakes: &mut Mistakes,
) -> Option<(Verb, Result<CallArguments>)> {
    let Some((first, more)) = calls.split_first() else {
        let message =
            "say how it is called: `#[get(\"/path\")]`, or `post`, `put`, `patch`, `delete`";
        mistakes.at(&signature.ident, message);
        return None;
    };
    for it in more {
        mistakes.at(it, "a method is one call: this is its second path");
    }
    let arguments = match &first.meta {
        syn::Meta::List(_) => first.parse_args(),
        other => {
            Err(Error::new_spanned(other, "expected a path in brackets, like `(\"/products\")`"))
        }
    };
    verb(first).map(|it| (it, arguments))
}

fn check_signature(item: &TraitItemFn, mistakes: &mut Mistakes) {
    let signature = &item.sig;
    if signature.asyncness.is_none() {
        mistakes.at(signature.fn_token, "a call waits for its answer: write `async fn`");
    }
    if let Some(it) = &signature.constness {
        mistakes.at(it, "a call cannot be `const`");
    }
    if let Safety::Safe(_) | Safety::Unsafe(_) = &signature.safety {
        mistakes.at(&signature.safety, "a call is neither `safe` nor `unsafe`");
    }
    if let Some(it) = &signature.abi {
        mistakes.at(it, "a call has no ABI");
    }
    if let Some(it) = &signature.variadic {
        mistakes.at(it, "a call has named parameters only");
    }
    mistakes.keep(item.modifiers.require_empty());
    check_generics(&signature.generics, mistakes);
    if let Some(it) = &item.default {
        mistakes.at(it, "the body is generated: end the method with `;`");
    }
    match signature.receiver() {
        None => mistakes.at(&signature.ident, "a call takes `&self` first"),
        Some(it) => match &it.kind {
            ReceiverKind::Reference(_, None, None) => {}
            _ => mistakes.at(it, "a call takes `&self`, so that one client serves many callers"),
        },
    }
}

fn check_bodies(verb: Verb, parameters: &[Parameter], mistakes: &mut Mistakes) {
    let mut bodies = parameters.iter().filter(|it| it.place == Place::Json);
    let Some(first) = bodies.next() else { return };
    if !verb.takes_body() {
        let message = format!("a {} has no body: use `#[query]`, or another method", verb.name());
        mistakes.at(&first.name, message);
    }
    for it in bodies {
        mistakes.at(&it.name, "a second body: a request has one");
    }
}

fn check_path(
    arguments: &CallArguments,
    path: &[crate::model::Piece],
    parameters: &[Parameter],
    item: &TraitItemFn,
    mistakes: &mut Mistakes,
) {
    let given = |wanted: &str| {
        parameters.iter().any(|it| matches!(&it.place, Place::Path(name) if name == wanted))
    };
    for name in template::names(path).filter(|it| !given(it)) {
        let message = format!(
            "nothing fills `{{{name}}}`: add the parameter `#[path] {name}: …` to `{}`",
            item.sig.ident
        );
        mistakes.add(Error::new(arguments.template.span(), message));
    }
    for (index, parameter) in parameters.iter().enumerate() {
        let Place::Path(name) = &parameter.place else { continue };
        if !template::names(path).any(|it| it == name) {
            mistakes.at(&parameter.name, format!("the path has no `{{{name}}}`"));
        }
        if parameters.iter().take(index).any(|it| it.place == parameter.place) {
            mistakes.at(&parameter.name, format!("`{{{name}}}` is filled twice"));
        }
    }
}

/// Whether the answer is `Result<(), …>`; anything but a `Result` is a mistake.
fn answers_unit(signature: &Signature) -> Result<bool> {
    const MESSAGE: &str = "a call answers `Result<T, CallError>`";
    let ReturnType::Type(_, kind) = &signature.output else {
        return Err(Error::new_spanned(&signature.ident, MESSAGE));
    };
    let wrong = || Error::new_spanned(kind, MESSAGE);
    let Type::Path(path) = &**kind else { return Err(wrong()) };
    let last = path.path.segments.last().filter(|it| it.ident == "Result").ok_or_else(wrong)?;
    let PathArguments::AngleBracketed(inner) = &last.arguments else { return Err(wrong()) };
    match inner.args.first() {
        Some(GenericArgument::Type(Type::Tuple(it))) => Ok(it.elems.is_empty()),
        Some(GenericArgument::Type(_)) => Ok(false),
        _ => Err(wrong()),
    }
}
