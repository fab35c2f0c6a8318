//! A sheet to draw on, in pixels of the finished picture.
use std::io;

use plotters::backend::SVGBackend;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea};
use plotters::element::{Circle, PathElement, Polygon, Rectangle};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{
    Color, FontDesc, FontFamily, FontStyle, FontTransform, RGBAColor, RGBColor, ShapeStyle, TextStyle,
};

use super::colour;

/// The drawing library counts in whole numbers: four to a pixel make smooth curves.
const FINE: f64 = 4.0;

/// The library divides the size of a font by this.
const FONT_FACTOR: f64 = 1.24;

/// Why nothing was drawn.
pub(super) type Fault = DrawingAreaErrorKind<io::Error>;

/// A place, in pixels from the upper left corner.
pub(super) type Point = (f64, f64);

/// A sheet.
pub(super) struct Canvas<'a>(DrawingArea<SVGBackend<'a>, Shift>);

/// How a text looks. It stands in the middle of its height.
#[derive(Clone, Copy)]
pub(super) struct Font {
    size: f64,
    colour: RGBColor,
    bold: bool,
    upright: bool,
    side: HPos,
}

/// The look of most texts.
pub(super) const PLAIN: Font =
    Font { size: 11.0, colour: colour::INK, bold: false, upright: true, side: HPos::Left };

/// The look of what is read second.
pub(super) const QUIET: Font = Font { colour: colour::QUIET_INK, ..PLAIN };

/// The look of a title.
const TITLE: Font = Font { size: 15.0, bold: true, ..PLAIN };

impl Font {
    pub(super) fn size(self, size: f64) -> Self {
        Self { size, ..self }
    }

    pub(super) fn colour(self, colour: RGBColor) -> Self {
        Self { colour, ..self }
    }

    pub(super) fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    /// The text's middle at the point.
    pub(super) fn centred(self) -> Self {
        Self { side: HPos::Center, ..self }
    }

    /// The text's end at the point.
    pub(super) fn ending(self) -> Self {
        Self { side: HPos::Right, ..self }
    }

    /// Written upwards.
    pub(super) fn rising(self) -> Self {
        Self { upright: false, ..self }
    }
}

/// About how wide a text is; a picture can't know the reader's font.
pub(super) fn width_of(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * 0.58
}

/// Draws a picture of this size; `about` is for those who can't see it.
pub(super) fn draw(
    (width, height): (f64, f64),
    about: &str,
    paint: impl FnOnce(&Canvas<'_>) -> Result<(), Fault>,
) -> Result<String, Fault> {
    let (width, height) = (width.ceil(), height.ceil());
    let fine = ((width * FINE) as u32, (height * FINE) as u32);
    let mut svg = String::new();
    {
        let canvas = Canvas(SVGBackend::with_string(&mut svg, fine).into_drawing_area());
        canvas.bar((0.0, 0.0), (width, height), colour::PAPER)?;
        paint(&canvas)?;
        canvas.0.present()?;
    }
    // The library's own head gives the fine size as the size.
    let body = svg.split_once('>').map_or("", |(_, body)| body);
    let about = about.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {} {}\" \
         role=\"img\" aria-label=\"{about}\">{body}",
        fine.0, fine.1
    ))
}

fn fine(point: Point) -> (i32, i32) {
    // Conversion saturates; adding a half first rounds.
    let whole = |value: f64| (value * FINE + 0.5).floor() as i32;
    (whole(point.0), whole(point.1))
}

fn stroke(colour: &RGBAColor, width: f64) -> ShapeStyle {
    colour.stroke_width((width * FINE + 0.5) as u32)
}

impl Canvas<'_> {
    pub(super) fn text(&self, at: Point, text: &str, font: Font) -> Result<(), Fault> {
        let style = if font.bold { FontStyle::Bold } else { FontStyle::Normal };
        let turn = if font.upright { FontTransform::None } else { FontTransform::Rotate270 };
        let desc =
            FontDesc::new(FontFamily::SansSerif, font.size * FINE * FONT_FACTOR, style).transform(turn);
        let style = TextStyle::from(desc).color(&font.colour).pos(Pos::new(font.side, VPos::Center));
        self.0.draw_text(text, &style, fine(at))
    }

    /// A title and, below it, what it means.
    pub(super) fn title(&self, title: &str, meaning: &str) -> Result<(), Fault> {
        self.text((16.0, 20.0), title, TITLE)?;
        self.text((16.0, 40.0), meaning, QUIET)
    }

    /// A filled rectangle.
    pub(super) fn bar(&self, from: Point, to: Point, colour: RGBColor) -> Result<(), Fault> {
        self.0.draw(&Rectangle::new([fine(from), fine(to)], colour.filled()))
    }

    pub(super) fn line(&self, from: Point, to: Point, colour: RGBColor, width: f64) -> Result<(), Fault> {
        self.path(&[from, to], colour, width)
    }

    pub(super) fn path(&self, points: &[Point], colour: RGBColor, width: f64) -> Result<(), Fault> {
        let points: Vec<_> = points.iter().copied().map(fine).collect();
        self.0.draw(&PathElement::new(points, stroke(&colour.to_rgba(), width)))
    }

    /// A path of dashes. The library has one, but its lengths come from the system's `hypot`.
    pub(super) fn dashes(&self, points: &[Point], colour: RGBColor, width: f64) -> Result<(), Fault> {
        for dash in dashed(points, 5.0, 3.5) {
            self.path(&dash, colour, width)?;
        }
        Ok(())
    }

    /// A filled shape that lets things behind it be seen.
    pub(super) fn shade(&self, points: &[Point], colour: RGBColor, opacity: f64) -> Result<(), Fault> {
        let points: Vec<_> = points.iter().copied().map(fine).collect();
        self.0.draw(&Polygon::new(points, colour.mix(opacity).filled()))
    }

    pub(super) fn dot(&self, at: Point, radius: f64, colour: RGBColor, opacity: f64) -> Result<(), Fault> {
        self.0.draw(&Circle::new(fine(at), (radius * FINE) as u32, colour.mix(opacity).filled()))
    }
}

/// Cuts a path into dashes with gaps between.
fn dashed(points: &[Point], dash: f64, gap: f64) -> Vec<Vec<Point>> {
    let mut dashes = Vec::new();
    let mut current = points.first().map_or_else(Vec::new, |first| vec![*first]);
    let (mut inked, mut left) = (true, dash);
    for pair in points.windows(2) {
        let ((mut x, mut y), (to_x, to_y)) = (pair[0], pair[1]);
        loop {
            let length = ((to_x - x) * (to_x - x) + (to_y - y) * (to_y - y)).sqrt();
            if length <= left || !length.is_finite() {
                left -= length;
                break;
            }
            (x, y) = (x + (to_x - x) * left / length, y + (to_y - y) * left / length);
            if inked {
                current.push((x, y));
                dashes.push(std::mem::take(&mut current));
            } else {
                current = vec![(x, y)];
            }
            inked = !inked;
            left = if inked { dash } else { gap };
        }
        if inked {
            current.push((to_x, to_y));
        }
    }
    if current.len() > 1 {
        dashes.push(current);
    }
    dashes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_follow_the_path() {
        let dashes = dashed(&[(0.0, 0.0), (4.0, 0.0), (4.0, 10.0)], 5.0, 3.0);
        assert_eq!(dashes, [vec![(0.0, 0.0), (4.0, 0.0), (4.0, 1.0)], vec![(4.0, 4.0), (4.0, 9.0)]],);
        assert!(dashed(&[], 5.0, 3.0).is_empty());
        assert!(dashed(&[(1.0, 1.0)], 5.0, 3.0).is_empty());
    }

    #[test]
    fn names_are_escaped() {
        let svg =
            draw((10.0, 10.0), "a <b> & \"c\"", |canvas| canvas.text((1.0, 1.0), "<script>", PLAIN)).unwrap();
        assert!(svg.contains("aria-label=\"a &lt;b> &amp; &quot;c&quot;\""), "{svg}");
        assert!(svg.contains("&lt;script&gt;") && !svg.contains("<script>"), "{svg}");
        assert!(svg.trim_end().ends_with("</svg>"), "{svg}");
    }
}
