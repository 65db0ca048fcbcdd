//! The page: title, panels in a grid, source line.

use svg::node::element::{Description, Group, Rectangle, Title};

use super::palette::{GRID, INK, MUTED, PAPER};
use super::panel::Panel;
use super::text::{Anchor, FONTS, Face, clean, px};

/// Free space around everything.
const MARGIN: f64 = 36.0;
/// Free space between panels.
const GUTTER: f64 = 40.0;
const TITLE: Face = Face::bold(26.0, INK);
const SUBTITLE: Face = Face::new(15.0, MUTED);
const SOURCE: Face = Face::new(12.5, MUTED);

/// A picture of one or more panels.
#[derive(Debug, Clone)]
pub struct Figure {
    title: String,
    subtitle: String,
    source: String,
    columns: usize,
    width: f64,
    panel_height: f64,
    panels: Vec<Panel>,
}

impl Figure {
    /// An empty figure, 1280 pixels wide.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            subtitle: String::new(),
            source: String::new(),
            columns: 3,
            width: 1280.0,
            panel_height: 400.0,
            panels: vec![],
        }
    }

    /// What the reader needs to know before the charts; wraps, and breaks at line feeds.
    #[must_use]
    pub fn subtitle(mut self, text: impl Into<String>) -> Self {
        self.subtitle = text.into();
        self
    }

    /// Where the data come from, below the charts; wraps.
    #[must_use]
    pub fn source(mut self, text: impl Into<String>) -> Self {
        self.source = text.into();
        self
    }

    /// Panels side by side, at least 1. Fewer panels share the width.
    #[must_use]
    pub fn columns(mut self, columns: usize) -> Self {
        self.columns = columns.max(1);
        self
    }

    /// Width in pixels, at least 320.
    #[must_use]
    pub fn width(mut self, pixels: u32) -> Self {
        self.width = f64::from(pixels.max(320));
        self
    }

    /// Height of each panel in pixels, titles and axes included, at least 160.
    #[must_use]
    pub fn panel_height(mut self, pixels: u32) -> Self {
        self.panel_height = f64::from(pixels.max(160));
        self
    }

    /// Adds a panel; the grid fills row by row.
    #[must_use]
    pub fn panel(mut self, panel: Panel) -> Self {
        self.panels.push(panel);
        self
    }

    /// The picture as one SVG element, ended by a newline.
    pub fn to_svg(&self) -> String {
        let inner = self.width - 2.0 * MARGIN;
        let mut body = Group::new();
        let mut y = MARGIN - 4.0;
        for line in TITLE.wrap(&self.title, inner) {
            y += 24.0;
            body = body.add(TITLE.draw(&line, MARGIN, y, Anchor::Start));
            y += 8.0;
        }
        for line in self.subtitle.lines().flat_map(|line| SUBTITLE.wrap(line, inner)) {
            y += 18.0;
            body = body.add(SUBTITLE.draw(&line, MARGIN, y, Anchor::Start));
            y += 4.0;
        }
        y += 26.0;
        let columns = self.columns.min(self.panels.len().max(1));
        let width = (inner - GUTTER * (columns - 1) as f64) / columns as f64;
        for row in self.panels.chunks(columns) {
            // Charts side by side begin at one height.
            let legends = row.iter().map(|panel| panel.legend_height(width)).fold(0.0, f64::max);
            for (column, panel) in row.iter().enumerate() {
                let x = MARGIN + (width + GUTTER) * column as f64;
                body = body.add(panel.draw((x, y), (width, self.panel_height), legends));
            }
            y += self.panel_height + 28.0;
        }
        for line in SOURCE.wrap(&self.source, inner) {
            y += 14.0;
            body = body.add(SOURCE.draw(&line, MARGIN, y, Anchor::Start));
            y += 4.0;
        }
        let height = (y + MARGIN - 16.0).ceil();
        let ground = Rectangle::new()
            .set("x", 0.5)
            .set("y", 0.5)
            .set("width", px(self.width - 1.0))
            .set("height", px(height - 1.0))
            .set("rx", 10)
            .set("fill", PAPER.to_string())
            .set("stroke", GRID.to_string());
        let document = svg::Document::new()
            .set("width", self.width)
            .set("height", height)
            .set("viewBox", (0, 0, self.width, height))
            .set("role", "img")
            .set("font-family", FONTS)
            .set("style", "font-variant-numeric: tabular-nums")
            .add(Title::new(clean(&self.title)))
            .add(Description::new().add(svg::node::Text::new(clean(&self.description()))))
            .add(ground)
            .add(body);
        format!("{document}\n")
    }

    /// What a reader who cannot see the picture is told.
    fn description(&self) -> String {
        let panels: Vec<&str> = self.panels.iter().map(|panel| panel.title.as_str()).collect();
        let parts = [self.subtitle.clone(), format!("Charts: {}.", panels.join("; ")), self.source.clone()];
        parts.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::{Axis, Color, Unit, bins, palette};

    fn every_kind() -> Figure {
        let samples: Vec<f64> = (1..500).map(|i| f64::from(i * 37 % 499)).collect();
        let axes = || (Axis::log2("tokens", Unit::Tokens), Axis::linear("latency", Unit::Milliseconds));
        let panel = |title: &str| Panel::new(title, axes().0, axes().1);
        let dots = samples.iter().map(|v| (*v, v * 2.0)).collect();
        Figure::new("Everything <once> & \"quoted\"\u{7}")
            .subtitle("a subtitle with </svg> in it ".repeat(20))
            .source("made for a test")
            .columns(2)
            .panel(panel("lines").names_at_ends("context").line("1k", palette::DECODE, vec![(1.0, 2.0), (64.0, 9.0)]))
            .panel(panel("steps").step("prefill", palette::PREFILL, vec![(1.0, 2.0), (9.0, f64::NAN), (64.0, 9.0)]))
            .panel(Panel::new("cdf", axes().0, Axis::linear("share", Unit::Share)).cdf(
                "all",
                palette::CACHED,
                &samples,
            ))
            .panel(panel("bins").histogram("", palette::CACHED, bins(&samples, 20, true)).rule_x(64.0, "p50", INK))
            .panel(panel("dots").scatter("requests", palette::TRANSFER, dots).rule_y(500.0, "SLA", palette::MISSED))
            .panel(
                Panel::new("bars", Axis::names("run", ["a", "b"]), axes().1)
                    .bars("one", Color::category(0), &[1.0, 2.0])
                    .bars("two", Color::category(1), &[3.0, f64::INFINITY])
                    .note((0.0, 2.0), "here", INK),
            )
            .panel(panel("nothing"))
    }

    #[test]
    fn every_kind_of_panel_is_well_formed_and_its_texts_are_text() {
        let svg = every_kind().to_svg();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let texts: Vec<&str> =
            document.descendants().filter(|n| n.has_tag_name("text")).filter_map(|n| n.text()).collect();
        assert!(texts.contains(&"Everything <once> & \"quoted\""), "{texts:?}");
        for expected in ["lines", "1k", "context", "prefill", "p50", "SLA", "here", "no data", "made for a test"] {
            assert!(texts.contains(&expected), "{expected} in {texts:?}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "no number may be undefined");
    }

    #[test]
    fn equal_figures_give_equal_bytes() {
        assert_eq!(every_kind().to_svg(), every_kind().to_svg());
    }

    #[test]
    fn everything_stays_on_the_page() {
        let svg = every_kind().to_svg();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let root = document.root_element();
        let size = |name: &str| root.attribute(name).unwrap().parse::<f64>().unwrap();
        let (width, height) = (size("width"), size("height"));
        for node in document.descendants().filter(|n| n.has_tag_name("text") || n.has_tag_name("line")) {
            for (names, limit) in [(["x", "x1", "x2"], width), (["y", "y1", "y2"], height)] {
                let values = names.iter().filter_map(|name| node.attribute(*name)?.parse::<f64>().ok());
                assert!(values.into_iter().all(|v| (0.0..=limit).contains(&v)), "{node:?}");
            }
        }
    }

    /// Values of an attribute of all elements of a kind.
    fn all(svg: &str, tag: &str, attribute: &str) -> Vec<String> {
        let document = roxmltree::Document::parse(svg).unwrap();
        let elements = document.descendants().filter(|node| node.has_tag_name(tag));
        elements.filter_map(|node| node.attribute(attribute).map(str::to_owned)).collect()
    }

    #[test]
    fn a_value_holds_until_the_gap_after_it() {
        let axes = || (Axis::linear("time", Unit::Seconds), Axis::log("tokens", Unit::Count));
        let steps = vec![(0.0, 9.0), (1.0, 0.0), (2.0, 5.0), (3.0, 7.0), (4.0, f64::NAN)];
        let panel = Panel::new("", axes().0, axes().1).step("", palette::DECODE, steps);
        let paths = all(&Figure::new("").panel(panel).to_svg(), "path", "d");
        let [path] = paths.as_slice() else { panic!("{paths:?}") };
        let letters: String = path.chars().filter(char::is_ascii_alphabetic).collect();
        assert_eq!(letters, "MHMHVH", "{path}");
    }

    #[test]
    fn charts_side_by_side_begin_at_one_height_and_labels_of_limits_stay_in_them() {
        let axes = || (Axis::linear("time", Unit::Seconds), Axis::linear("share", Unit::Share));
        let panel = |name: &str| {
            let panel = Panel::new("", axes().0, axes().1).line(name, palette::DECODE, vec![(0.0, 0.1), (9.0, 0.2)]);
            panel.rule_y(0.2, "limit", INK)
        };
        let svg = Figure::new("").panel(panel("")).panel(panel("named")).to_svg();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let number = |node: &roxmltree::Node, name: &str| node.attribute(name).unwrap().parse::<f64>().unwrap();
        let tops: Vec<f64> =
            document.descendants().filter(|n| n.has_tag_name("svg")).skip(1).map(|n| number(&n, "y")).collect();
        assert!(tops.len() == 2 && tops[0] == tops[1], "{tops:?}");
        let labels: Vec<f64> = document
            .descendants()
            .filter(|n| n.text() == Some("limit") && n.has_tag_name("text"))
            .map(|n| number(&n, "y"))
            .collect();
        assert!(labels.len() == 2 && labels.iter().all(|y| *y > tops[0] + 12.0), "{labels:?} below {tops:?}");
    }

    #[test]
    fn a_figure_without_panels_or_words_is_still_a_picture() {
        assert!(roxmltree::Document::parse(&Figure::new("").to_svg()).is_ok());
    }
}
