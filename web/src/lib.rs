//! The page: classify, distil and compare in a browser.
