/** Scrolls the current page into view in the navigation of a project, which on phones is a line that scrolls. */
document.querySelector('.nav [aria-current="page"]')?.scrollIntoView({ block: "nearest", inline: "center" });
