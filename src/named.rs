//! Enums that have one word for each variant.

/// Such an enum: `ALL` has its variants in order, `name` and `Display` give the word.
macro_rules! named {
    ($(#[$meta:meta])* $vis:vis enum $name:ident {
        $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+
    }) => {
        $(#[$meta])*
        $vis enum $name {
            $($(#[$variant_meta])* $variant,)+
        }

        impl $name {
            /// Every variant, in the order in which messages list them.
            #[allow(dead_code)]
            $vis const ALL: [$name; [$($word),+].len()] = [$($name::$variant),+];

            /// Its word.
            $vis fn name(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }
    };
}
