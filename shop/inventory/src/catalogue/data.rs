//! The table: categories, their lines, the axes they vary along. Prices in cents.

use super::{Axis, Category, Choice, Line};

const CHERRY: Choice = ("CHE", "Cherry", 0);
const GRAPHITE: Choice = ("GRA", "Graphite", 0);
const SAGE: Choice = ("SAG", "Sage", 0);
const WHITE: Choice = ("WHI", "White", 0);
const BLACK: Choice = ("BLK", "Black", 0);
const NAVY: Choice = ("NVY", "Navy", 0);
const INDIGO: Choice = ("IND", "Indigo", 300);
const OAT: Choice = ("OAT", "Oat", 0);
const SLATE: Choice = ("SLT", "Slate", 0);
const OCHRE: Choice = ("OCH", "Ochre", 0);
const CAMEL: Choice = ("CAM", "Camel", 0);
const MOSS: Choice = ("MOS", "Moss", 0);
const ORANGE: Choice = ("ORA", "Orange", 0);

const fn colour(choices: &'static [Choice]) -> Axis {
    Axis { attribute: "colour", choices }
}
const fn size(choices: &'static [Choice]) -> Axis {
    Axis { attribute: "size", choices }
}
const fn capacity(choices: &'static [Choice]) -> Axis {
    Axis { attribute: "capacity", choices }
}
const fn weight(choices: &'static [Choice]) -> Axis {
    Axis { attribute: "weight", choices }
}
const fn length(choices: &'static [Choice]) -> Axis {
    Axis { attribute: "length", choices }
}
const fn kind(choices: &'static [Choice]) -> Axis {
    Axis { attribute: "kind", choices }
}
const fn set_of(choices: &'static [Choice]) -> Axis {
    Axis { attribute: "set", choices }
}

const S_TO_XL: Axis = size(&[("S", "S", 0), ("M", "M", 0), ("L", "L", 0), ("XL", "XL", 1000)]);
const DARK_OR_LIGHT: Axis = colour(&[BLACK, WHITE]);

const fn line(
    code: &'static str,
    name: &'static str,
    price_cents: i64,
    axes: &'static [Axis],
) -> Line {
    Line { code, name, price_cents, axes }
}

const fn category(slug: &'static str, title: &'static str, lines: &'static [Line]) -> Category {
    Category { slug, title, lines }
}

/// The whole table.
pub(super) const CATEGORIES: &[Category] = &[
    category("tea-coffee", "Tea & Coffee", TEA_COFFEE),
    category("kitchen", "Kitchen", KITCHEN),
    category("tableware", "Tableware", TABLEWARE),
    category("home-textiles", "Home Textiles", HOME_TEXTILES),
    category("lighting", "Lighting", LIGHTING),
    category("stationery", "Stationery", STATIONERY),
    category("bags", "Bags & Luggage", BAGS),
    category("clothing", "Clothing", CLOTHING),
    category("footwear", "Footwear", FOOTWEAR),
    category("audio", "Audio", AUDIO),
    category("computer", "Computer Accessories", COMPUTER),
    category("outdoor", "Outdoor", OUTDOOR),
];

const TIN: Axis = weight(&[("50", "50 g", 0), ("100", "100 g", 5200), ("250", "250 g", 18800)]);
const ROAST: Axis = kind(&[("MED", "Medium Roast", 0), ("DRK", "Dark Roast", 0)]);
const TEA_COFFEE: &[Line] = &[
    line("TEA-LJ", "Longjing Green Tea", 6800, &[TIN]),
    line("TEA-TGY", "Tieguanyin Oolong", 5900, &[TIN]),
    line("TEA-JAS", "Jasmine Pearls", 4900, &[TIN]),
    line(
        "TEA-PU",
        "Ripe Pu'er Cake",
        8800,
        &[weight(&[("100", "100 g", 0), ("357", "357 g", 17000)])],
    ),
    line(
        "COF-YN",
        "Yunnan Arabica Beans",
        4600,
        &[weight(&[("250", "250 g", 0), ("500", "500 g", 3600), ("1000", "1 kg", 9800)]), ROAST],
    ),
];

const KITCHEN: &[Line] = &[
    line(
        "KIT-WOK",
        "Carbon Steel Wok",
        15900,
        &[size(&[("30", "30 cm", 0), ("32", "32 cm", 2000), ("34", "34 cm", 4000)])],
    ),
    line(
        "KIT-KNIFE",
        "Chef's Knife",
        19900,
        &[length(&[("18", "18 cm", 0), ("21", "21 cm", 3000)])],
    ),
    line(
        "KIT-POT",
        "Cast Iron Pot",
        29900,
        &[
            size(&[("20", "20 cm", 0), ("24", "24 cm", 8000), ("26", "26 cm", 12000)]),
            colour(&[CHERRY, GRAPHITE]),
        ],
    ),
    line(
        "KIT-STEAM",
        "Bamboo Steamer",
        5900,
        &[set_of(&[("2", "2 tiers", 0), ("3", "3 tiers", 2600)])],
    ),
    line(
        "KIT-FLASK",
        "Thermos Flask",
        11900,
        &[
            capacity(&[("500", "500 ml", 0), ("750", "750 ml", 2500)]),
            colour(&[CHERRY, GRAPHITE, SAGE]),
        ],
    ),
];

const GLAZE: Axis = colour(&[WHITE, INDIGO]);
const TABLEWARE: &[Line] = &[
    line(
        "TAB-CUP",
        "Celadon Tea Cup",
        6900,
        &[set_of(&[("2", "set of 2", 0), ("4", "set of 4", 6000), ("6", "set of 6", 11500)])],
    ),
    line(
        "TAB-BOWL",
        "Porcelain Bowl",
        2200,
        &[size(&[("45", "4.5 inch", 0), ("60", "6 inch", 1200)]), GLAZE],
    ),
    line(
        "TAB-PLATE",
        "Dinner Plate",
        2900,
        &[size(&[("80", "8 inch", 0), ("100", "10 inch", 1500)]), GLAZE],
    ),
    line(
        "TAB-CHOP",
        "Rosewood Chopsticks",
        3900,
        &[set_of(&[("5", "5 pairs", 0), ("10", "10 pairs", 3200)])],
    ),
    line("TAB-CARAFE", "Glass Carafe, 1 litre", 7900, &[]),
];

const HOME_TEXTILES: &[Line] = &[
    line(
        "TEX-BED",
        "Washed Cotton Bed Set",
        32900,
        &[
            size(&[("150", "1.5 m", 0), ("180", "1.8 m", 4000), ("200", "2.0 m", 7000)]),
            colour(&[OAT, SAGE, SLATE]),
        ],
    ),
    line("TEX-PILLOW", "Linen Pillowcase", 6900, &[colour(&[OAT, SAGE, SLATE])]),
    line("TEX-TOWEL", "Bath Towel", 7900, &[colour(&[WHITE, OAT, SLATE, OCHRE])]),
];

const LIGHTING: &[Line] = &[
    line("LGT-DESK", "Desk Lamp", 18900, &[DARK_OR_LIGHT]),
    line("LGT-FLOOR", "Floor Lamp", 45900, &[DARK_OR_LIGHT]),
    line(
        "LGT-BULB",
        "LED Bulb E27",
        1290,
        &[
            Axis {
                attribute: "power",
                choices: &[("5", "5 W", 0), ("9", "9 W", 500), ("12", "12 W", 900)],
            },
            kind(&[("WARM", "Warm White", 0), ("NEUT", "Neutral White", 0)]),
        ],
    ),
    line("LGT-NIGHT", "Night Light with Sensor", 4900, &[]),
    line("LGT-STRING", "String Lights", 3900, &[length(&[("5", "5 m", 0), ("10", "10 m", 2600)])]),
];

const STATIONERY: &[Line] = &[
    line(
        "STA-PEN",
        "Fountain Pen",
        12800,
        &[
            Axis { attribute: "nib", choices: &[("EF", "EF", 0), ("F", "F", 0), ("M", "M", 0)] },
            colour(&[BLACK, NAVY]),
        ],
    ),
    line(
        "STA-NOTE",
        "Hardcover Notebook",
        2900,
        &[
            size(&[("A6", "A6", 0), ("A5", "A5", 1000), ("B5", "B5", 1800)]),
            kind(&[("DOT", "dotted", 0), ("LIN", "lined", 0)]),
        ],
    ),
    line("STA-INK", "Fountain Pen Ink, 50 ml", 4500, &[colour(&[BLACK, NAVY, CHERRY, MOSS])]),
    line("STA-BRUSH", "Calligraphy Brush Set", 8600, &[]),
];

const BAGS: &[Line] = &[
    line(
        "BAG-PACK",
        "Daily Backpack",
        22900,
        &[capacity(&[("20", "20 l", 0), ("26", "26 l", 4000)]), colour(&[BLACK, NAVY, MOSS])],
    ),
    line("BAG-TOTE", "Canvas Tote", 5900, &[colour(&[OAT, BLACK, OCHRE])]),
    line(
        "BAG-SLEEVE",
        "Laptop Sleeve",
        8900,
        &[
            size(&[("13", "13 inch", 0), ("14", "14 inch", 500), ("16", "16 inch", 1500)]),
            colour(&[SLATE, CAMEL]),
        ],
    ),
    line(
        "BAG-CASE",
        "Hard Shell Suitcase",
        39900,
        &[
            size(&[("20", "20 inch", 0), ("24", "24 inch", 9000), ("28", "28 inch", 17000)]),
            colour(&[GRAPHITE, SAGE]),
        ],
    ),
];

const CLOTHING: &[Line] = &[
    line(
        "CLO-MERINO",
        "Merino Sweater",
        35900,
        &[S_TO_XL, colour(&[("CHA", "Charcoal", 0), CAMEL])],
    ),
    line("CLO-TEE", "Heavy Cotton T-Shirt", 9900, &[S_TO_XL, DARK_OR_LIGHT]),
    line(
        "CLO-DOWN",
        "Light Down Jacket",
        59900,
        &[size(&[("M", "M", 0), ("L", "L", 0), ("XL", "XL", 2000)])],
    ),
    line("CLO-SCARF", "Wool Scarf", 16900, &[colour(&[CAMEL, NAVY, CHERRY])]),
];

const FOOTWEAR: &[Line] = &[
    line(
        "SHO-RUN",
        "Road Running Shoes",
        49900,
        &[size(&[
            ("39", "39", 0),
            ("40", "40", 0),
            ("41", "41", 0),
            ("42", "42", 0),
            ("43", "43", 0),
            ("44", "44", 0),
        ])],
    ),
    line(
        "SHO-CANVAS",
        "Canvas Sneakers",
        17900,
        &[size(&[("38", "38", 0), ("40", "40", 0), ("42", "42", 0)]), DARK_OR_LIGHT],
    ),
    line(
        "SHO-SLIP",
        "House Slippers",
        4900,
        &[size(&[("36", "36-37", 0), ("40", "40-41", 0), ("44", "44-45", 0)])],
    ),
];

const AUDIO: &[Line] = &[
    line("AUD-BUDS", "Wireless Earbuds", 39900, &[DARK_OR_LIGHT]),
    line("AUD-OVER", "Over-Ear Headphones", 89900, &[colour(&[BLACK, OAT])]),
    line(
        "AUD-SPK",
        "Bluetooth Speaker",
        19900,
        &[size(&[("MINI", "Mini", 0), ("STD", "Standard", 18000)]), colour(&[SLATE, OCHRE])],
    ),
    line("AUD-MIC", "USB Microphone", 49900, &[]),
    line("AUD-BAR", "Soundbar", 129900, &[]),
    line("AUD-TURN", "Belt-Drive Turntable", 149900, &[]),
];

const COMPUTER: &[Line] = &[
    line(
        "COM-KEYS",
        "Mechanical Keyboard",
        45900,
        &[
            Axis {
                attribute: "switch",
                choices: &[("RED", "Red Switches", 0), ("BRN", "Brown Switches", 0)],
            },
            DARK_OR_LIGHT,
        ],
    ),
    line("COM-MOUSE", "Silent Wireless Mouse", 12900, &[DARK_OR_LIGHT]),
    line(
        "COM-CABLE",
        "USB-C Cable, 100 W",
        3900,
        &[length(&[("050", "0.5 m", 0), ("100", "1 m", 600), ("200", "2 m", 1600)])],
    ),
    line(
        "COM-SSD",
        "Portable SSD",
        42900,
        &[capacity(&[("500", "500 GB", 0), ("1000", "1 TB", 26000), ("2000", "2 TB", 76000)])],
    ),
    line(
        "COM-POWER",
        "Power Bank",
        12900,
        &[capacity(&[("10", "10,000 mAh", 0), ("20", "20,000 mAh", 7000)]), DARK_OR_LIGHT],
    ),
    line("COM-HUB", "USB-C Hub, 7 in 1", 21900, &[]),
];

const OUTDOOR: &[Line] = &[
    line(
        "OUT-TENT",
        "Trekking Tent",
        79900,
        &[size(&[("2P", "2 people", 0), ("3P", "3 people", 18000)])],
    ),
    line(
        "OUT-SLEEP",
        "Down Sleeping Bag",
        69900,
        &[kind(&[("0", "to 0 C", 0), ("M10", "to -10 C", 24000)])],
    ),
    line("OUT-RAIN", "Rain Jacket", 39900, &[S_TO_XL, colour(&[MOSS, ORANGE])]),
    line("OUT-CHAIR", "Folding Chair", 16900, &[colour(&[MOSS, SLATE])]),
    line("OUT-POLES", "Carbon Trekking Poles", 32900, &[]),
    line("OUT-LANTERN", "Camping Lantern", 11900, &[]),
    line("OUT-TORCH", "Head Torch", 14900, &[]),
    line("OUT-STOVE", "Gas Stove, Foldable", 15900, &[]),
];
