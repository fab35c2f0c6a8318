//! A template's program, with functions in the place of the operators that build texts and lists.
//!
//! The template engine measures no operator. So the syntax tree is copied with calls instead of them, under names that no template
//! can write; [`super::bounds`] holds the functions. The copy also keeps the compiler from computing operators on constants,
//! which it does without a limit, and makes plain text of the template a value, so that it is counted when it is written. What
//! other operators read goes through functions of [`super::reads`], which count it and hand it on.

use std::collections::BTreeMap;

use minijinja::machinery::ast::{self, CallArg, Expr, Spanned, Stmt};
use minijinja::machinery::{CodeGenerator, Instructions, Span, Token, WhitespaceConfig, parse, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Error, ErrorKind, Value};

use super::{bounds, reads};

/// The instructions of a template.
pub(super) struct Program<'s> {
    pub(super) main: Instructions<'s>,
    pub(super) blocks: BTreeMap<&'s str, Instructions<'s>>,
}

/// Compiles a template.
///
/// # Errors
/// Its syntax, and what [`check_depth`] refuses.
pub(super) fn compile(source: &str) -> Result<Program<'_>, Error> {
    let spaces = WhitespaceConfig { keep_trailing_newline: false, lstrip_blocks: true, trim_blocks: true };
    check_depth(source, spaces)?;
    let tree = parse(source, "chat", SyntaxConfig, spaces)?;
    let mut code = CodeGenerator::new("chat", source);
    code.compile_stmt(&stmt(&tree));
    let (main, blocks) = code.finish();
    Ok(Program { main, blocks })
}

/// Refuses templates whose syntax tree would be too deep: parser, compiler and the copy below follow it by recursion.
fn check_depth(source: &str, spaces: WhitespaceConfig) -> Result<(), Error> {
    /// In one tag: words and signs (each operator or filter of a chain is a level), `not` and `-`, open brackets.
    const MAX_TAG: [usize; 3] = [1024, 128, 32];
    /// In all: `elif`.
    const MAX_BRANCHES: usize = 256;

    let (mut tag, mut branches, mut starts) = ([0usize; 3], 0, false);
    for token in tokenize(source, false, SyntaxConfig, spaces) {
        let token = token?.0;
        match token {
            Token::VariableStart | Token::BlockStart => tag = [0; 3],
            Token::Ident("not") | Token::Minus => tag[1] += 1,
            Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => tag[2] += 1,
            Token::ParenClose | Token::BracketClose | Token::BraceClose => tag[2] = tag[2].saturating_sub(1),
            Token::Ident("elif") if starts => branches += 1,
            _ => {}
        }
        tag[0] += 1;
        starts = matches!(token, Token::BlockStart);
        if tag.iter().zip(MAX_TAG).any(|(found, most)| *found > most) || branches > MAX_BRANCHES {
            return Err(Error::new(ErrorKind::SyntaxError, "tags are too long or too deep"));
        }
    }
    Ok(())
}

fn body<'s>(of: &[Stmt<'s>]) -> Vec<Stmt<'s>> {
    of.iter().map(stmt).collect()
}

fn stmt<'s>(of: &Stmt<'s>) -> Stmt<'s> {
    match of {
        Stmt::Template(s) => Stmt::Template(at(s, ast::Template { children: body(&s.children) })),
        Stmt::EmitExpr(s) => Stmt::EmitExpr(at(s, ast::EmitExpr { expr: expr(&s.expr) })),
        Stmt::EmitRaw(s) => {
            let text = Expr::Const(at(s, ast::Const { value: Value::from_safe_string(s.raw.to_owned()) }));
            Stmt::EmitExpr(at(s, ast::EmitExpr { expr: text }))
        }
        Stmt::ForLoop(s) => Stmt::ForLoop(at(
            s,
            ast::ForLoop {
                target: target(&s.target),
                iter: read(reads::WALKED, &s.iter),
                filter_expr: s.filter_expr.as_ref().map(expr),
                recursive: s.recursive,
                body: body(&s.body),
                else_body: body(&s.else_body),
            },
        )),
        Stmt::IfCond(s) => Stmt::IfCond(at(
            s,
            ast::IfCond {
                expr: expr(&s.expr),
                true_body: body(&s.true_body),
                false_body: body(&s.false_body),
            },
        )),
        Stmt::WithBlock(s) => {
            let assignments = s.assignments.iter().map(|(to, from)| (target(to), held(to, expr(from))));
            let assignments = assignments.collect();
            Stmt::WithBlock(at(s, ast::WithBlock { assignments, body: body(&s.body) }))
        }
        Stmt::Set(s) => {
            Stmt::Set(at(s, ast::Set { target: target(&s.target), expr: held(&s.target, expr(&s.expr)) }))
        }
        Stmt::SetBlock(s) => {
            let filter = s.filter.as_ref().map(|filter| held(&s.target, expr(filter)));
            Stmt::SetBlock(at(s, ast::SetBlock { target: target(&s.target), filter, body: body(&s.body) }))
        }
        Stmt::AutoEscape(s) => {
            Stmt::AutoEscape(at(s, ast::AutoEscape { enabled: expr(&s.enabled), body: body(&s.body) }))
        }
        Stmt::FilterBlock(s) => {
            Stmt::FilterBlock(at(s, ast::FilterBlock { filter: expr(&s.filter), body: body(&s.body) }))
        }
        Stmt::Block(s) => {
            Stmt::Block(at(s, ast::Block { name: s.name, required: s.required, body: body(&s.body) }))
        }
        Stmt::Import(s) => Stmt::Import(at(s, ast::Import { expr: expr(&s.expr), name: target(&s.name) })),
        Stmt::FromImport(s) => {
            let names = s.names.iter().map(|(name, alias)| (target(name), alias.as_ref().map(target)));
            let names = names.collect();
            Stmt::FromImport(at(s, ast::FromImport { expr: expr(&s.expr), names }))
        }
        Stmt::Extends(s) => Stmt::Extends(at(s, ast::Extends { name: expr(&s.name) })),
        Stmt::Include(s) => {
            let ignore_missing = s.ignore_missing;
            Stmt::Include(at(s, ast::Include { name: read(reads::COMPARED, &s.name), ignore_missing }))
        }
        Stmt::Macro(s) => Stmt::Macro(at(s, declared(s))),
        Stmt::CallBlock(s) => {
            let macro_decl = at(&s.macro_decl, declared(&s.macro_decl));
            Stmt::CallBlock(at(s, ast::CallBlock { call: call(&s.call), macro_decl }))
        }
        Stmt::Continue(s) => Stmt::Continue(at(s, ast::Continue)),
        Stmt::Break(s) => Stmt::Break(at(s, ast::Break)),
        Stmt::Do(s) => Stmt::Do(at(s, ast::Do { call: call(&s.call) })),
    }
}

fn declared<'s>(of: &ast::Macro<'s>) -> ast::Macro<'s> {
    ast::Macro {
        name: of.name,
        args: of.args.iter().map(target).collect(),
        defaults: of.defaults.iter().map(expr).collect(),
        body: body(&of.body),
    }
}

/// What is assigned to: names, lists of them, and attributes of namespaces.
fn target<'s>(of: &Expr<'s>) -> Expr<'s> {
    match of {
        Expr::List(s) => Expr::List(at(s, ast::List { items: s.items.iter().map(target).collect() })),
        Expr::GetAttr(s) => Expr::GetAttr(at(s, ast::GetAttr { expr: expr(&s.expr), name: s.name })),
        _ => expr(of),
    }
}

/// A value on its way to a target: where that is an attribute of a namespace, it is looked at first.
fn held<'s>(to: &Expr<'s>, value: Expr<'s>) -> Expr<'s> {
    let span = value.span();
    match to {
        Expr::Var(_) => value,
        _ => measured(bounds::HELD, span, [value]),
    }
}

fn expr<'s>(of: &Expr<'s>) -> Expr<'s> {
    let some = |of: &Option<Expr<'s>>| of.as_ref().map(expr);
    match of {
        Expr::Var(s) => Expr::Var(at(s, ast::Var { id: s.id })),
        Expr::Const(s) => Expr::Const(at(s, ast::Const { value: s.value.clone() })),
        Expr::Slice(s) => {
            let part = |of: &Option<Expr<'s>>| {
                some(of).unwrap_or_else(|| Expr::Const(at(s, ast::Const { value: Value::from(()) })))
            };
            measured(bounds::SLICE, s.span(), [expr(&s.expr), part(&s.start), part(&s.stop), part(&s.step)])
        }
        Expr::UnaryOp(s) => Expr::UnaryOp(at(
            s,
            ast::UnaryOp {
                op: match s.op {
                    ast::UnaryOpKind::Not => ast::UnaryOpKind::Not,
                    ast::UnaryOpKind::Neg => ast::UnaryOpKind::Neg,
                },
                expr: expr(&s.expr),
            },
        )),
        Expr::BinOp(s) => {
            use ast::BinOpKind::{Eq, Gt, Gte, In, Lt, Lte, Ne};
            let (left, right) = match s.op {
                Eq | Ne | Lt | Lte | Gt | Gte => {
                    (read(reads::COMPARED, &s.left), read(reads::COMPARED, &s.right))
                }
                In => (read(reads::COMPARED, &s.left), read(reads::SEARCHED, &s.right)),
                _ => (expr(&s.left), expr(&s.right)),
            };
            match s.op {
                ast::BinOpKind::Concat => measured(bounds::CONCAT, s.span(), [left, right]),
                ast::BinOpKind::Add => measured(bounds::ADD, s.span(), [left, right]),
                ast::BinOpKind::Mul => measured(bounds::MUL, s.span(), [left, right]),
                op => Expr::BinOp(at(s, ast::BinOp { op, left, right })),
            }
        }
        Expr::Compare(s) => {
            // More than one comparison: what one of them searches the next may compare.
            let compared = |of| read(reads::COMPARED, of);
            let ops = s.ops.iter().map(|o| ast::CompareOp { op: o.op, expr: compared(&o.expr) }).collect();
            Expr::Compare(at(s, ast::Compare { expr: compared(&s.expr), ops }))
        }
        Expr::IfExpr(s) => Expr::IfExpr(at(
            s,
            ast::IfExpr {
                test_expr: expr(&s.test_expr),
                true_expr: expr(&s.true_expr),
                false_expr: some(&s.false_expr),
            },
        )),
        Expr::Filter(s) => {
            Expr::Filter(at(s, ast::Filter { name: s.name, expr: some(&s.expr), args: args(&s.args) }))
        }
        Expr::Test(s) => {
            Expr::Test(at(s, ast::Test { name: s.name, expr: expr(&s.expr), args: args(&s.args) }))
        }
        Expr::GetAttr(s) => Expr::GetAttr(at(s, ast::GetAttr { expr: expr(&s.expr), name: s.name })),
        Expr::GetItem(s) => {
            let subscript_expr = read(reads::INDEXED, &s.subscript_expr);
            // A name is no index of a text.
            let named = matches!(&s.subscript_expr, Expr::Const(c) if c.value.as_str().is_some());
            let of = if named { expr(&s.expr) } else { read(reads::INDEXED, &s.expr) };
            Expr::GetItem(at(s, ast::GetItem { expr: of, subscript_expr }))
        }
        Expr::Call(s) => Expr::Call(call(s)),
        Expr::List(s) => {
            let list = Expr::List(at(s, ast::List { items: s.items.iter().map(expr).collect() }));
            built(s.as_const().is_some(), list)
        }
        Expr::Map(s) => {
            let (keys, values) = (s.keys.iter().map(expr).collect(), s.values.iter().map(expr).collect());
            built(s.as_const().is_some(), Expr::Map(at(s, ast::Map { keys, values })))
        }
    }
}

/// A list or map; one of constants is as the source has it.
fn built(constant: bool, of: Expr<'_>) -> Expr<'_> {
    let span = of.span();
    if constant { of } else { measured(bounds::BUILT, span, [of]) }
}

fn call<'s>(of: &Spanned<ast::Call<'s>>) -> Spanned<ast::Call<'s>> {
    let args = args(&of.args);
    // The engine's own methods and functions that read: a loop remembers values, and starts again with others.
    let args = match &of.expr {
        Expr::GetAttr(s) if s.name == "changed" => seen(reads::COMPARED, args),
        Expr::Var(s) if s.id == "loop" => seen(reads::WALKED, args),
        Expr::GetAttr(s) if s.name == "cycle" => cycled(args, s.span()),
        _ => args,
    };
    at(of, ast::Call { expr: expr(&of.expr), args })
}

/// Arguments of `loop.cycle`, at least one: the engine divides by their number.
fn cycled(mut args: Vec<CallArg<'_>>, span: Span) -> Vec<CallArg<'_>> {
    if args.iter().any(|arg| matches!(arg, CallArg::Pos(_))) {
        return args;
    }
    match args.iter().position(|arg| matches!(arg, CallArg::PosSplat(_))) {
        Some(at) => {
            if let CallArg::PosSplat(list) = args.remove(at) {
                args.insert(at, CallArg::PosSplat(measured(bounds::SOME, span, [list])));
            }
        }
        None => {
            let nothing = Expr::Const(Spanned::new(ast::Const { value: Value::UNDEFINED }, span));
            args.insert(0, CallArg::Pos(nothing));
        }
    }
    args
}

/// Arguments that a function of [`super::reads`] has counted.
fn seen<'s>(by: &'static str, args: Vec<CallArg<'s>>) -> Vec<CallArg<'s>> {
    let by = |value: Expr<'s>| measured(by, value.span(), [value]);
    let arg = |arg| match arg {
        CallArg::Pos(value) => CallArg::Pos(by(value)),
        CallArg::Kwarg(name, value) => CallArg::Kwarg(name, by(value)),
        CallArg::PosSplat(value) => CallArg::PosSplat(by(value)),
        CallArg::KwargSplat(value) => CallArg::KwargSplat(by(value)),
    };
    args.into_iter().map(arg).collect()
}

/// A value that is read; short constants need no counting.
fn read<'s>(by: &'static str, of: &Expr<'s>) -> Expr<'s> {
    /// In bytes.
    const SHORT: usize = 64;
    match of {
        Expr::Const(s) if s.value.as_str().map_or(s.value.len().is_none(), |text| text.len() <= SHORT) => {
            expr(of)
        }
        _ => measured(by, of.span(), [expr(of)]),
    }
}

fn args<'s>(of: &[CallArg<'s>]) -> Vec<CallArg<'s>> {
    let arg = |arg: &CallArg<'s>| match arg {
        CallArg::Pos(value) => CallArg::Pos(expr(value)),
        CallArg::Kwarg(name, value) => CallArg::Kwarg(name, expr(value)),
        CallArg::PosSplat(value) => CallArg::PosSplat(measured(bounds::SPLAT, value.span(), [expr(value)])),
        CallArg::KwargSplat(value) => {
            CallArg::KwargSplat(measured(bounds::BUILT, value.span(), [expr(value)]))
        }
    };
    of.iter().map(arg).collect()
}

/// A call of a function of [`super::bounds`].
fn measured<'s, const N: usize>(name: &'static str, span: Span, args: [Expr<'s>; N]) -> Expr<'s> {
    let function = Expr::Var(Spanned::new(ast::Var { id: name }, span));
    let args = args.into_iter().map(CallArg::Pos).collect();
    Expr::Call(Spanned::new(ast::Call { expr: function, args }, span))
}

fn at<T, U>(of: &Spanned<T>, node: U) -> Spanned<U> {
    Spanned::new(node, of.span())
}
